"""joblib's backend ``"keras"``: workers that start at once and don't fight.

`server` is a process that has everything imported and forks the workers; `process` and `executor`
make joblib's executor run on them; `worker` and `limits` are what a worker does first; `backend`
is what joblib sees.
"""
