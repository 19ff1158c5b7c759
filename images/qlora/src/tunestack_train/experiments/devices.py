"""The GPUs of this machine, and who has which."""

import ctypes
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from tunestack_train.errors import SettingsError


@dataclass(frozen=True)
class Gpu:
    """`index` is what CUDA_VISIBLE_DEVICES takes; uuid and name are None where no driver told them."""

    index: str
    uuid: str | None = None
    name: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return asdict(self)


def find_gpus(setting: str) -> list[Gpu]:
    """`auto`: what the driver shows, as CUDA_VISIBLE_DEVICES allows. `none`: none. Else a list as `0,1`."""
    if setting == "none":
        return []
    found = {gpu.index: gpu for gpu in _ask_driver()}
    wanted = setting if setting != "auto" else os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return list(found.values())
    names = [name.strip() for name in wanted.split(",") if name.strip() and name.strip() != "-1"]
    unknown = [name for name in names if name.isdigit() and found and name not in found]
    if unknown or (setting != "auto" and not names):
        raise SettingsError(f"--gpus {setting}: there is no GPU {', '.join(unknown)}", f"there are: {', '.join(found)}")
    return [found.get(name, Gpu(name)) for name in names]


def _ask_driver() -> list[Gpu]:
    """By NVML, which is part of the driver; in a container it shows the GPUs that the container has."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    if nvml.nvmlInit_v2() != 0:
        return []
    count = ctypes.c_uint()
    found: list[Gpu] = []
    if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0:
        for index in range(count.value):
            handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
                continue
            uuid = text.value.decode() if nvml.nvmlDeviceGetUUID(handle, text, 96) == 0 else None
            name = text.value.decode() if nvml.nvmlDeviceGetName(handle, text, 96) == 0 else None
            found.append(Gpu(str(index), uuid, name))
    nvml.nvmlShutdown()
    return found


class Slots:
    """GPUs and places on the CPU, given out and taken back. An experiment with GPUs takes no place on the CPU."""

    def __init__(self, gpus: Sequence[Gpu], cpu_places: int, *, gpus_on_cpu: bool) -> None:
        self._free = list(gpus)
        self._order = {gpu.index: place for place, gpu in enumerate(gpus)}
        self._cpu_free = cpu_places
        self._gpus_on_cpu = gpus_on_cpu and not gpus
        self.total = len(gpus)

    def could_take(self, gpus: int) -> bool:
        """Whether this machine has enough, were nothing running."""
        return gpus <= self.total or self._gpus_on_cpu

    def takes(self, gpus: int) -> bool:
        """Whether there is enough now."""
        return self._cpu_free > 0 if self._on_cpu(gpus) else gpus <= len(self._free)

    def take(self, gpus: int) -> tuple[Gpu, ...]:
        """The GPUs that are given; none for a place on the CPU."""
        if self._on_cpu(gpus):
            self._cpu_free -= 1
            return ()
        given, self._free = self._free[:gpus], self._free[gpus:]
        return tuple(given)

    def give_back(self, gpus: Iterable[Gpu]) -> None:
        """What `take` gave."""
        returned = list(gpus)
        if not returned:
            self._cpu_free += 1
        self._free = sorted([*self._free, *returned], key=lambda gpu: self._order[gpu.index])

    def _on_cpu(self, gpus: int) -> bool:
        return gpus == 0 or self._gpus_on_cpu
