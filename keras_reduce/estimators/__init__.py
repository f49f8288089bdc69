"""The implementation beneath the estimators of `keras_reduce.wrappers` and `keras_reduce.scikeras`.

`base` builds, trains, predicts, clones and pickles. The other modules have one task each:
`parameters` routes them, `construction` makes objects of classes, `seeding` isolates seeded fits,
`callbacks` copies callbacks, `data` validates inputs and outputs, `labels` encodes classes,
`several_outputs` is the base of estimators for models with more than one.
"""
