"""Names of joblib, loky and the standard library that the backend "keras" needs."""

from __future__ import annotations

from ..core.private_names import Manifest

_LOKY = "joblib.externals.loky"
_EXECUTOR = f"{_LOKY}.process_executor"
_BACKENDS = "joblib._parallel_backends"
_MAPPING = "joblib._memmapping_reducer"

BACKEND = Manifest(
    "joblib's backend 'keras'",
    "loky is used instead",
    {
        f"{_BACKENDS}:FallbackToBackend": "to run tasks one by one, or on loky",
        f"{_BACKENDS}:LokyBackend.MAX_NUM_THREADS_VARS": "to limit TensorFlow's threads as well",
        f"{_BACKENDS}:LokyBackend._prepare_worker_env": "to set the environment of workers",
        f"{_BACKENDS}:LokyBackend.abort_everything": "to end workers at once",
        f"{_BACKENDS}:LokyBackend.batch_completed": "to show progress",
        f"{_BACKENDS}:LokyBackend.configure": "to prepare the workers",
        f"{_BACKENDS}:LokyBackend.submit": "to send tasks, and to resend those of dead workers",
        f"{_BACKENDS}:LokyBackend.terminate": "to end a call and keep its workers",
        f"{_BACKENDS}:SequentialBackend": "to run tasks one by one",
        "joblib.parallel:Parallel()._id": "to find the temporary files of a call",
        "joblib.executor:MemmappingExecutor": "to derive the pool of workers",
        f"{_MAPPING}:_get_temp_dir": "to find a place for temporary files",
        f"{_MAPPING}:get_memmapping_reducers": "to send large arrays as files",
        f"{_MAPPING}:TemporaryResourcesManager.register_new_context": "to make a temporary folder "
        "for each call",
        f"{_MAPPING}:TemporaryResourcesManager.resolve_temp_folder_name": "to find the temporary "
        "folder of a call",
        f"{_MAPPING}:TemporaryResourcesManager()._cached_temp_folders": "to list the temporary "
        "folders",
        f"{_EXECUTOR}:ProcessPoolExecutor.submit": "to send tasks to this pool and no other",
        f"{_EXECUTOR}:ProcessPoolExecutor._adjust_process_count": "to replace a worker that has "
        "exited",
        f"{_EXECUTOR}:ProcessPoolExecutor._start_executor_manager_thread": "to start a manager "
        "thread that restarts workers",
        f"{_EXECUTOR}:ProcessPoolExecutor()._executor_manager_thread": "to set the manager thread",
        f"{_EXECUTOR}:ProcessPoolExecutor()._executor_manager_thread_wakeup": "to wake the manager "
        "thread up",
        f"{_EXECUTOR}:ProcessPoolExecutor()._flags": "to tell whether the pool is broken or shut "
        "down",
        f"{_EXECUTOR}:ProcessPoolExecutor()._max_workers": "to read the number of workers",
        f"{_EXECUTOR}:ProcessPoolExecutor()._processes": "to find the workers that have died",
        f"{_EXECUTOR}:ProcessPoolExecutor()._processes_management_lock": "to lock the list of "
        "workers while one is added",
        f"{_EXECUTOR}:ProcessPoolExecutor()._shutdown_lock": "to lock the wake-up of the manager "
        "thread",
        f"{_LOKY}.reusable_executor:_ReusablePoolExecutor._resize": "to add and end workers",
        f"{_LOKY}.reusable_executor:_ReusablePoolExecutor()._submit_resize_lock": "to lock the "
        "pool while workers are added or ended",
        f"{_EXECUTOR}:_ExecutorManagerThread.process_result_item": "to notice that a worker exits",
        f"{_EXECUTOR}:_ExecutorManagerThread.wait_result_broken_or_wakeup": "to report the death "
        "of a worker",
        f"{_EXECUTOR}:_ExecutorManagerThread().executor_reference": "to find the pool of a manager "
        "thread",
        f"{_EXECUTOR}:_ExecutorManagerThread().pending_work_items": "to tell whether tasks wait",
        f"{_EXECUTOR}:_ExecutorManagerThread().processes": "to list the workers of a manager "
        "thread",
        f"{_EXECUTOR}:_ExecutorManagerThread().processes_management_lock": "to lock the list of "
        "workers while one is removed",
        f"{_EXECUTOR}:_ExecutorManagerThread().running_work_items": "to tell whether tasks run",
        f"{_EXECUTOR}:TerminatedWorkerError": "to detect that a worker has died",
        f"{_EXECUTOR}:_python_exit": "to end the pool with the program",
        f"{_EXECUTOR}:process_pool_executor_at_exit": "to tell whether the end of pools with the "
        "program is registered",
        f"{_EXECUTOR}:_threads_wakeups": "to list the pools that end with the program",
        f"{_LOKY}.backend.context:LokyContext": "to derive the context that forks workers",
        f"{_LOKY}.backend.reduction:dump": "to pickle a process for its worker",
        f"{_LOKY}.backend.resource_tracker:ensure_running": "to remove files of dead workers",
        f"{_LOKY}.backend.resource_tracker:maybe_unlink": "to remove files of weights",
        f"{_LOKY}.backend.resource_tracker:register": "to have files of weights removed",
        f"{_LOKY}.backend.spawn:get_preparation_data": "to send a worker its preparation data",
        f"{_LOKY}.backend.spawn:prepare": "to set up a forked process as a worker",
        "multiprocessing.context:set_spawning_popen": "to send queues and locks to a worker",
        "multiprocessing.process:BaseProcess": "to derive the process of a worker",
        "multiprocessing.process:BaseProcess._bootstrap": "to run a worker",
        "multiprocessing.resource_tracker:_resource_tracker": "to share the tracker of semaphores",
        "threading:_register_atexit": "to end the pool before its threads are joined",
    },
)
