"""GPUs through NVML, by nvidia-ml-py. A GPU that stops answering becomes a sample that says so, never an exception."""

import ctypes
import importlib
from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol, TypeVar, cast

from tunestack_train.monitor.samples import GpuIdentity, GpuProcess, GpuReadings, GpuSample

T = TypeVar("T")
# NVML's handles are opaque pointers, which are only passed back and compared.
Handle = ctypes.c_void_p

# Return codes and constants of nvml.h.
_NOT_GIVEN = {
    2,
    3,
    4,
    6,
    13,
    21,
    25,
    26,
    27,
}  # invalid for this GPU, unsupported, no permission, no such function, no data…
_LOST = {15, 16, 28}  # GPU is lost, reset required, GPU not found
_TIMEOUT = 10
_REMEDIES = {
    4: "this user may not open the GPU; give the container its devices (Docker: --gpus all)",
    9: "the NVIDIA driver is not loaded; on the host, `nvidia-smi` tells more",
    12: "no NVIDIA driver here, or the container was started without a GPU",
    13: "the driver's library is too old for this monitor",
    18: "the driver was updated and the machine was not restarted since; restart it",
}
_MEMORY_V2 = 0x02000028
_CLOCK_SM, _CLOCK_MEMORY = 1, 2
_ECC_CORRECTED, _ECC_UNCORRECTED, _ECC_VOLATILE = 0, 1, 0
_XID_EVENT = 0x8
_MOST_EVENTS_A_SAMPLE = 64


class NvmlUnavailableError(Exception):
    """NVML cannot be used; the message is one line for people."""


class _GpuIsLostError(Exception):
    pass


class _Memory(Protocol):
    total: int
    free: int
    used: int
    reserved: int


class _Utilization(Protocol):
    gpu: int
    memory: int


class _Pci(Protocol):
    busId: str  # noqa: N815 - NVML's name


class _Process(Protocol):
    pid: int
    usedGpuMemory: int | None  # noqa: N815 - NVML's name


class _Event(Protocol):
    device: Handle
    eventData: int  # noqa: N815 - NVML's name


class NvmlApi(Protocol):
    """What is used of the module `pynvml`."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None: ...
    def nvmlShutdown(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str: ...
    def nvmlSystemGetProcessName(self, pid: int) -> str: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle: ...
    def nvmlDeviceGetUUID(self, handle: Handle) -> str: ...
    def nvmlDeviceGetName(self, handle: Handle) -> str: ...
    def nvmlDeviceGetPciInfo(self, handle: Handle) -> _Pci: ...
    def nvmlDeviceGetMemoryInfo(self, handle: Handle, version: int | None = None) -> _Memory: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Handle) -> _Utilization: ...
    def nvmlDeviceGetEncoderUtilization(self, handle: Handle) -> list[int]: ...
    def nvmlDeviceGetDecoderUtilization(self, handle: Handle) -> list[int]: ...
    def nvmlDeviceGetTemperature(self, handle: Handle, sensor: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Handle) -> int: ...
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Handle) -> int: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Handle) -> int: ...
    def nvmlDeviceGetClockInfo(self, handle: Handle, clock: int) -> int: ...
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Handle) -> int: ...
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Handle) -> int: ...
    def nvmlDeviceGetTotalEccErrors(self, handle: Handle, error: int, counter: int) -> int: ...
    def nvmlDeviceGetPcieReplayCounter(self, handle: Handle) -> int: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Handle) -> list[_Process]: ...
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: Handle) -> list[_Process]: ...
    def nvmlEventSetCreate(self) -> Handle: ...
    def nvmlEventSetFree(self, events: Handle) -> None: ...
    def nvmlDeviceRegisterEvents(self, handle: Handle, kinds: int, events: Handle) -> None: ...
    def nvmlEventSetWait(self, events: Handle, timeout_ms: int) -> _Event: ...


def load_api() -> NvmlApi:
    """nvidia-ml-py's module. Raises NvmlUnavailableError where it is not installed."""
    try:
        return cast("NvmlApi", importlib.import_module("pynvml"))
    except ModuleNotFoundError:
        raise NvmlUnavailableError("the Python package nvidia-ml-py is not installed") from None


def _code(error: Exception) -> int:
    value = getattr(error, "value", 999)
    return value if isinstance(value, int) else 999


def _unknown(index: int) -> str:
    """Stands for the UUID of a GPU that has never answered."""
    return f"unknown-{index}"


class _Questions:
    """Asks NVML about one GPU: None for what it does not give, and the first unexpected failure is remembered."""

    def __init__(self, api: NvmlApi) -> None:
        self._api = api
        self.failure: str | None = None

    def ask(self, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except self._api.NVMLError as error:
            code = _code(error)
            if code in _LOST:
                raise _GpuIsLostError(str(error)) from None
            if code not in _NOT_GIVEN and self.failure is None:
                self.failure = str(error)
            return None


class GpuReader:
    """All GPUs of this machine. Not safe for several threads: only the sampler uses it."""

    def __init__(self, api: NvmlApi) -> None:
        self._api = api
        self._handles: dict[str, Handle] = {}
        self._identities: dict[str, GpuIdentity] = {}
        self._absent: dict[str, str] = {}  # UUID to the reason why there is no handle
        self._events: Handle | None = None
        self._last_xid: dict[str, int] = {}
        self._initialized = False

    def open(self) -> None:
        """Starts NVML and finds the GPUs. Raises NvmlUnavailableError, also where there are none and never were any."""
        try:
            self._api.nvmlInit()
            self._initialized = True
            self._find_gpus()
        except self._api.NVMLError as error:
            self.close()
            remedy = _REMEDIES.get(_code(error))
            raise NvmlUnavailableError(f"NVML says «{error}»" + (f": {remedy}" if remedy else "")) from None
        if not self._identities:
            self.close()
            raise NvmlUnavailableError("NVML answers and shows no GPU to this container")
        self._watch_xid_errors()

    def reopen(self) -> None:
        """Starts NVML afresh, for GPUs that come back after a reset. Those still missing stay known, as lost."""
        self.close()
        try:
            self.open()
        except NvmlUnavailableError as error:
            self._absent = dict.fromkeys(self._identities, str(error))

    def close(self) -> None:
        """Lets go of NVML; nothing is raised, whatever state the driver is in."""
        if self._initialized:
            if self._events is not None:
                self._quietly(partial(self._api.nvmlEventSetFree, self._events))
            self._quietly(self._api.nvmlShutdown)
        self._events = None
        self._handles = {}
        self._initialized = False

    def read(self, timestamp: float) -> list[GpuSample]:
        """A sample of each GPU ever seen, in the order of their indices."""
        new_xids = self._take_xid_errors()
        for uuid, codes in new_xids.items():
            self._last_xid[uuid] = codes[-1]
        identities = sorted(self._identities.values(), key=lambda identity: identity.index)
        return [self._sample(identity, timestamp, tuple(new_xids.get(identity.uuid, ()))) for identity in identities]

    def _quietly(self, action: Callable[[], None]) -> None:
        try:
            action()
        except self._api.NVMLError:
            return

    def _find_gpus(self) -> None:
        driver = _Questions(self._api).ask(self._api.nvmlSystemGetDriverVersion)
        self._handles, self._absent = {}, {}
        unanswered: dict[int, str] = {}
        for index in range(self._api.nvmlDeviceGetCount()):
            try:
                handle = self._api.nvmlDeviceGetHandleByIndex(index)
                uuid = self._api.nvmlDeviceGetUUID(handle)
                self._identities[uuid] = self._identify(index, uuid, handle, driver)
                self._handles[uuid] = handle
            except (self._api.NVMLError, _GpuIsLostError) as error:
                unanswered[index] = str(error)
        for index, reason in unanswered.items():
            known = [
                gpu.uuid for gpu in self._identities.values() if gpu.index == index and gpu.uuid not in self._handles
            ]
            uuid = known[0] if known else _unknown(index)
            self._identities.setdefault(uuid, GpuIdentity(index, uuid, "unknown GPU", None, driver))
            self._absent[uuid] = reason
        found = {self._identities[uuid].index for uuid in self._handles}
        for uuid in [
            uuid for uuid, gpu in self._identities.items() if uuid == _unknown(gpu.index) and gpu.index in found
        ]:
            del self._identities[uuid]  # it has told its name since
        for uuid in self._identities:
            if uuid not in self._handles:
                self._absent.setdefault(uuid, "NVML no longer lists this GPU")

    def _identify(self, index: int, uuid: str, handle: Handle, driver: str | None) -> GpuIdentity:
        questions = _Questions(self._api)
        name = questions.ask(lambda: self._api.nvmlDeviceGetName(handle))
        pci = questions.ask(lambda: self._api.nvmlDeviceGetPciInfo(handle))
        return GpuIdentity(index, uuid, name or "unknown GPU", pci.busId if pci else None, driver)

    def _watch_xid_errors(self) -> None:
        """XID errors come as events only. A driver or container that gives none leaves them unknown."""
        try:
            self._events = self._api.nvmlEventSetCreate()
        except self._api.NVMLError:
            self._events = None
            return
        for handle in self._handles.values():
            self._quietly(partial(self._api.nvmlDeviceRegisterEvents, handle, _XID_EVENT, self._events))

    def _take_xid_errors(self) -> dict[str, list[int]]:
        taken: dict[str, list[int]] = {}
        if self._events is None:
            return taken
        addresses = {ctypes.cast(handle, ctypes.c_void_p).value: uuid for uuid, handle in self._handles.items()}
        for _ in range(_MOST_EVENTS_A_SAMPLE):
            try:
                event = self._api.nvmlEventSetWait(self._events, 0)
            except self._api.NVMLError as error:
                if _code(error) != _TIMEOUT:
                    return taken  # a lost GPU fails the wait for all of them; its own sample says that it is lost
                break
            uuid = addresses.get(ctypes.cast(event.device, ctypes.c_void_p).value)
            if uuid is not None:
                taken.setdefault(uuid, []).append(int(event.eventData))
        return taken

    def _sample(self, identity: GpuIdentity, timestamp: float, new_xids: tuple[int, ...]) -> GpuSample:
        handle = self._handles.get(identity.uuid)
        state: Literal["ok", "lost", "unreadable"] = "ok"
        readings, error = GpuReadings(), None
        if handle is None:
            state, error = "lost", self._absent.get(identity.uuid, "NVML is closed")
        else:
            questions = _Questions(self._api)
            try:
                readings = self._read(handle, questions)
                state, error = ("ok" if questions.failure is None else "unreadable"), questions.failure
            except _GpuIsLostError as lost:
                state, error = "lost", str(lost)
        return GpuSample(timestamp, identity, state, error, readings, new_xids, self._xid(identity.uuid))

    def _xid(self, uuid: str) -> int | None:
        return self._last_xid.get(uuid, 0 if self._events is not None else None)

    def _read(self, gpu: Handle, questions: _Questions) -> GpuReadings:
        api, ask = self._api, questions.ask
        rates = ask(lambda: api.nvmlDeviceGetUtilizationRates(gpu))
        encoder = ask(lambda: api.nvmlDeviceGetEncoderUtilization(gpu))
        decoder = ask(lambda: api.nvmlDeviceGetDecoderUtilization(gpu))
        # The second version tells the driver's own reservation apart, as DCGM does; older drivers have the first only.
        detailed = ask(lambda: api.nvmlDeviceGetMemoryInfo(gpu, _MEMORY_V2))
        memory = detailed or ask(lambda: api.nvmlDeviceGetMemoryInfo(gpu))
        power = ask(lambda: api.nvmlDeviceGetPowerUsage(gpu))
        limit = ask(lambda: api.nvmlDeviceGetEnforcedPowerLimit(gpu))
        mask = ask(lambda: api.nvmlDeviceGetCurrentClocksEventReasons(gpu))
        if mask is None:
            mask = ask(lambda: api.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
        return GpuReadings(
            utilization_percent=rates.gpu if rates else None,
            memory_utilization_percent=rates.memory if rates else None,
            encoder_utilization_percent=encoder[0] if encoder else None,
            decoder_utilization_percent=decoder[0] if decoder else None,
            memory_used_bytes=memory.used if memory else None,
            memory_free_bytes=memory.free if memory else None,
            memory_reserved_bytes=detailed.reserved if detailed else None,
            memory_total_bytes=memory.total if memory else None,
            temperature_celsius=ask(lambda: api.nvmlDeviceGetTemperature(gpu, 0)),
            power_watts=None if power is None else power / 1000,
            power_limit_watts=None if limit is None else limit / 1000,
            energy_millijoules=ask(lambda: api.nvmlDeviceGetTotalEnergyConsumption(gpu)),
            clock_sm_mhz=ask(lambda: api.nvmlDeviceGetClockInfo(gpu, _CLOCK_SM)),
            clock_memory_mhz=ask(lambda: api.nvmlDeviceGetClockInfo(gpu, _CLOCK_MEMORY)),
            throttle_mask=mask,
            ecc_corrected_errors=ask(lambda: api.nvmlDeviceGetTotalEccErrors(gpu, _ECC_CORRECTED, _ECC_VOLATILE)),
            ecc_uncorrected_errors=ask(lambda: api.nvmlDeviceGetTotalEccErrors(gpu, _ECC_UNCORRECTED, _ECC_VOLATILE)),
            pcie_replays=ask(lambda: api.nvmlDeviceGetPcieReplayCounter(gpu)),
            processes=self._processes(gpu, questions),
        )

    def _processes(self, gpu: Handle, questions: _Questions) -> tuple[GpuProcess, ...]:
        found: list[GpuProcess] = []
        lists: tuple[tuple[Literal["compute", "graphics"], Callable[[Handle], list[_Process]]], ...] = (
            ("compute", self._api.nvmlDeviceGetComputeRunningProcesses),
            ("graphics", self._api.nvmlDeviceGetGraphicsRunningProcesses),
        )
        for kind, listed in lists:
            found += [
                GpuProcess(process.pid, self._process_name(process.pid), process.usedGpuMemory, kind)
                for process in questions.ask(partial(listed, gpu)) or []
            ]
        return tuple(found)

    def _process_name(self, pid: int) -> str | None:
        try:
            return self._api.nvmlSystemGetProcessName(pid) or None
        except (self._api.NVMLError, UnicodeDecodeError):
            return None  # a process that has just ended, or one outside this container
