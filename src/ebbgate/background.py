"""Threads of this package, which can be started as long as any code of the process runs.

When the main script has ended, Python waits for the threads that are not daemons. They may enter their first block
then, but since 3.12 the `threading` module no longer starts threads at that stage, and executors refuse work. The
system still starts threads: this module uses `pthread_create`, and Python adopts such a thread as it adopts those of
other libraries.

Source: CPython, `Py_FinalizeEx` and `PyGILState_Ensure`.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from asyncio import Future

P = ParamSpec("P")
T = TypeVar("T")

_kept: Final[list[object]] = []  # what the system calls must live as long as the process


class BackgroundThread:
    """A daemon thread."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        """Make one that runs `target`; it is not started yet."""
        self._target = target
        self._name = name
        self._ended = threading.Event()
        self._ident = -1

    def start(self) -> None:
        """Start it.

        Raises:
            RuntimeError: the system has no thread for it.
        """
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError as error:
            if not _is_script_over(error):
                raise
            _start_by_system(self._run)

    def _run(self) -> None:
        self._ident = threading.get_ident()
        try:
            self._target()
        finally:
            self._ended.set()

    def is_current(self) -> bool:
        """Return whether this is the thread that asks."""
        return self._ident == threading.get_ident()

    def join(self, timeout_seconds: float | None = None) -> None:
        """Return when it has ended, or after the timeout."""
        self._ended.wait(timeout_seconds)


def call_in_thread(function: Callable[P, T], *args: P.args, **named: P.kwargs) -> "Future[T]":
    """Call a function in a thread, in a copy of the context, and return the future of its result for the running loop.

    Raises:
        RuntimeError: the system has no thread for it, or the executor of the loop was shut down.
    """
    from asyncio import get_running_loop  # 16 ms, which scripts without it do not pay

    loop = get_running_loop()
    context = contextvars.copy_context()
    try:
        return loop.run_in_executor(None, lambda: context.run(function, *args, **named))
    except RuntimeError as error:
        if not _is_script_over(error):
            raise
    future: Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T is

    def call() -> None:
        result, error = None, None
        try:
            result = context.run(function, *args, **named)
        except BaseException as raised:  # noqa: BLE001 - it is raised where the future is awaited
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    BackgroundThread(call, "ebbgate-call").start()
    return future


def _is_script_over(error: RuntimeError) -> bool:
    # The main thread still counts as alive while it waits for the threads of executors.
    return "interpreter shutdown" in str(error) or not threading.main_thread().is_alive()


def _start_by_system(run: Callable[[], None]) -> None:
    # Only here, and in the last moments of a process.
    import ctypes

    def begin(_: object) -> None:
        run()

    begun = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(begin)
    _kept.append(begun)
    handle = ctypes.c_void_p()
    system = ctypes.CDLL(None)
    if system.pthread_create(ctypes.byref(handle), None, begun, None) != 0:
        raise RuntimeError("the system starts no new thread")
    system.pthread_detach(handle)
