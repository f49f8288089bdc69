"""Parts of the estimators in `keras_reduce.wrappers`, one module for each task.

`seeding` keeps seeded fits apart; `callbacks` copies callbacks; `data` checks what goes in and what
comes out.
"""
