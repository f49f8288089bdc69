"""Parts of the estimators in `keras_reduce.wrappers`, one module for each task.

`seeding` isolates seeded fits, `callbacks` copies callbacks, `data` validates inputs and outputs.
"""
