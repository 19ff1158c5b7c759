/* A stand-in for the driver's libnvidia-ml.so.1, just wide enough for gpu-monitor.
 *
 * It reads the file named by FAKE_NVML_SCENARIO again at each call, so a test can change what happens meanwhile:
 *
 *   init 9                                  what nvmlInit returns
 *   count 1                                 how many of the GPUs below are listed (all where this is not said)
 *   gpu uuid=GPU-a name=NVIDIA_L4 util=87   one line a GPU; a key that is left out is "not supported"
 *
 * A value such as temp=!999 makes that one question return the code 999.
 * Keys: uuid name util memutil used free total reserved temp power limit energy sm mem reasons eccc eccu replay
 * pid pmem, and: error (every question about the GPU returns this code), xid (an event, whenever the number changes),
 * hang=1 (questions about the GPU never return). Return codes are those of nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, TOO_SMALL = 7, TIMEOUT = 10, GPUS = 8 };

typedef struct { int index; } Device;
typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, id, subsystem; char busId[32]; } Pci;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gpuInstance, computeInstance; } Process;
typedef struct { Device *device; unsigned long long type, data; unsigned gpuInstance, computeInstance; } Event;

static Device devices[GPUS] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
static unsigned long long told_xid[GPUS];
static int watched[GPUS];

/* The text of the first line that begins with `word`, or the one after `skip` such lines; 0 where there is none. */
static int line_of(const char *word, int skip, char *text, int size) {
  const char *path = getenv("FAKE_NVML_SCENARIO");
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file) return 0;
  int found = 0;
  size_t length = strlen(word);
  while (!found && fgets(text, size, file))
    if (!strncmp(text, word, length) && text[length] == ' ' && skip-- == 0) found = 1;
  fclose(file);
  return found;
}

static int number_of(const char *word, int otherwise) {
  char text[512];
  return line_of(word, 0, text, sizeof text) ? atoi(text + strlen(word)) : otherwise;
}

static int text_of(Device *gpu, const char *key, char *value, int size) {
  char line[512];
  if (!line_of("gpu", gpu->index, line, sizeof line)) return 0;
  size_t length = strlen(key);
  for (char *word = strtok(line + 4, " \n"); word; word = strtok(NULL, " \n"))
    if (!strncmp(word, key, length) && word[length] == '=') {
      snprintf(value, size, "%s", word + length + 1);
      for (char *c = value; *c; c++) if (*c == '_') *c = ' ';
      return 1;
    }
  return 0;
}

static int value_of(Device *gpu, const char *key, unsigned long long *value) {
  char text[256];
  if (text_of(gpu, "hang", text, sizeof text)) for (;;) pause();
  if (text_of(gpu, "error", text, sizeof text)) return atoi(text);
  if (!text_of(gpu, key, text, sizeof text)) return UNSUPPORTED;
  if (text[0] == '!') return atoi(text + 1);
  *value = strtoull(text, NULL, 0);
  return OK;
}

static int small_value_of(Device *gpu, const char *key, unsigned *value) {
  unsigned long long wide;
  int code = value_of(gpu, key, &wide);
  if (code == OK) *value = (unsigned)wide;
  return code;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return number_of("init", OK); }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "560.35.03"); return OK; }

int nvmlSystemGetProcessName(unsigned pid, char *text, unsigned size) {
  snprintf(text, size, "python-%u", pid);
  return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  char line[512];
  unsigned gpus = 0;
  while (gpus < GPUS && line_of("gpu", gpus, line, sizeof line)) gpus++;
  *count = number_of("count", gpus);
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **gpu) {
  char code[16];
  if (index >= GPUS) return INVALID;
  *gpu = &devices[index];
  return text_of(*gpu, "error", code, sizeof code) ? atoi(code) : OK;
}

int nvmlDeviceGetUUID(Device *gpu, char *text, unsigned size) {
  return text_of(gpu, "uuid", text, size) ? OK : INVALID;
}

int nvmlDeviceGetName(Device *gpu, char *text, unsigned size) { return text_of(gpu, "name", text, size) ? OK : UNSUPPORTED; }

int nvmlDeviceGetPciInfo_v3(Device *gpu, Pci *pci) {
  memset(pci, 0, sizeof *pci);
  snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", gpu->index + 1);
  return OK;
}

int nvmlDeviceGetMemoryInfo(Device *gpu, Memory *memory) {
  int code = value_of(gpu, "total", &memory->total);
  if (code == OK) code = value_of(gpu, "used", &memory->used);
  if (code == OK) memory->free = memory->total - memory->used;
  return code;
}

int nvmlDeviceGetMemoryInfo_v2(Device *gpu, MemoryV2 *memory) {
  if (memory->version != (2u << 24 | sizeof(MemoryV2))) return 25;
  int code = value_of(gpu, "reserved", &memory->reserved);
  if (code == OK) code = value_of(gpu, "total", &memory->total);
  if (code == OK) code = value_of(gpu, "used", &memory->used);
  if (code == OK) memory->free = memory->total - memory->used - memory->reserved;
  return code;
}

int nvmlDeviceGetUtilizationRates(Device *gpu, Utilization *rates) {
  int code = small_value_of(gpu, "util", &rates->gpu);
  return code == OK ? small_value_of(gpu, "memutil", &rates->memory) : code;
}

int nvmlDeviceGetEncoderUtilization(Device *gpu, unsigned *percent, unsigned *period) {
  *period = 1000;
  return small_value_of(gpu, "enc", percent);
}

int nvmlDeviceGetDecoderUtilization(Device *gpu, unsigned *percent, unsigned *period) {
  *period = 1000;
  return small_value_of(gpu, "dec", percent);
}

int nvmlDeviceGetTemperature(Device *gpu, int sensor, unsigned *degrees) {
  return sensor == 0 ? small_value_of(gpu, "temp", degrees) : INVALID;
}

int nvmlDeviceGetPowerUsage(Device *gpu, unsigned *milliwatts) { return small_value_of(gpu, "power", milliwatts); }
int nvmlDeviceGetEnforcedPowerLimit(Device *gpu, unsigned *milliwatts) { return small_value_of(gpu, "limit", milliwatts); }
int nvmlDeviceGetTotalEnergyConsumption(Device *gpu, unsigned long long *mj) { return value_of(gpu, "energy", mj); }
int nvmlDeviceGetPcieReplayCounter(Device *gpu, unsigned *count) { return small_value_of(gpu, "replay", count); }

int nvmlDeviceGetClockInfo(Device *gpu, int clock, unsigned *mhz) {
  return small_value_of(gpu, clock == 1 ? "sm" : clock == 2 ? "mem" : "other", mhz);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(Device *gpu, unsigned long long *mask) { return value_of(gpu, "reasons", mask); }

int nvmlDeviceGetTotalEccErrors(Device *gpu, int error, int counter, unsigned long long *count) {
  return counter == 0 ? value_of(gpu, error == 0 ? "eccc" : "eccu", count) : INVALID;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *gpu, unsigned *count, Process *list) {
  unsigned long long pid, used = ~0ull; /* NVML_VALUE_NOT_AVAILABLE */
  int code = value_of(gpu, "pid", &pid);
  if (code == UNSUPPORTED) { *count = 0; return OK; }
  if (code != OK) return code;
  if (!list || *count < 1) { *count = 1; return TOO_SMALL; }
  value_of(gpu, "pmem", &used);
  *count = 1;
  list[0] = (Process){(unsigned)pid, used, ~0u, ~0u};
  return OK;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *gpu, unsigned *count, Process *list) {
  (void)gpu, (void)list;
  *count = 0;
  return OK;
}

int nvmlEventSetCreate(void **set) { *set = devices; return OK; }
int nvmlEventSetFree(void *set) { (void)set; memset(watched, 0, sizeof watched); return OK; }

int nvmlDeviceRegisterEvents(Device *gpu, unsigned long long types, void *set) {
  (void)set;
  watched[gpu->index] = types == 0x8;
  return OK;
}

int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout) {
  (void)set, (void)timeout;
  char text[32];
  for (int index = 0; index < GPUS; index++) {
    unsigned long long xid = watched[index] && text_of(&devices[index], "xid", text, sizeof text) ? strtoull(text, NULL, 0) : 0;
    if (xid && xid != told_xid[index]) {
      told_xid[index] = xid;
      *event = (Event){&devices[index], 0x8, xid, ~0u, ~0u};
      return OK;
    }
  }
  return TIMEOUT;
}
