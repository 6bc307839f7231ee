// NVIDIA's management library for tests, without a GPU: what this project calls of it. MOCK_NVML_DEVICES
// is how many GPUs there are (1), MOCK_NVML_XIDS the faults that they report, one after the other:
// "0:79,1:31" is Xid 79 of the first and 31 of the second. Then nothing happens any more.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

namespace {

enum Result { SUCCESS = 0, INVALID_ARGUMENT = 2, TIMEOUT = 10 };
constexpr unsigned long long XID = 8;

struct Event {
    void* device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

int count() {
    const char* given = getenv("MOCK_NVML_DEVICES");
    return given ? atoi(given) : 1;
}

// A device is its number and one.
void* device_of(int index) { return reinterpret_cast<void*>(static_cast<intptr_t>(index + 1)); }
int index_of(void* device) { return static_cast<int>(reinterpret_cast<intptr_t>(device)) - 1; }

bool is_registered[64];
const char* faults;

}  // namespace

extern "C" {

int nvmlInit_v2() {
    faults = getenv("MOCK_NVML_XIDS");
    return SUCCESS;
}

int nvmlShutdown() { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned* devices) {
    *devices = static_cast<unsigned>(count());
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
    if (static_cast<int>(index) >= count()) return INVALID_ARGUMENT;
    *device = device_of(static_cast<int>(index));
    return SUCCESS;
}

int nvmlDeviceGetIndex(void* device, unsigned* index) {
    *index = static_cast<unsigned>(index_of(device));
    return SUCCESS;
}

int nvmlEventSetCreate(void** set) {
    *set = is_registered;
    return SUCCESS;
}

int nvmlEventSetFree(void*) { return SUCCESS; }

int nvmlDeviceRegisterEvents(void* device, unsigned long long events, void*) {
    if (events != XID) return INVALID_ARGUMENT;
    is_registered[index_of(device)] = true;
    return SUCCESS;
}

int nvmlEventSetWait_v2(void*, Event* event, unsigned timeout_ms) {
    int index = 0, xid = 0, length = 0;
    if (faults && sscanf(faults, "%d:%d%n", &index, &xid, &length) == 2) {
        faults += length;
        if (*faults == ',') faults++;
        if (is_registered[index]) {
            memset(event, 0, sizeof *event);
            event->device = device_of(index);
            event->type = XID;
            event->data = static_cast<unsigned long long>(xid);
            return SUCCESS;
        }
    }
    usleep(timeout_ms * 1000);
    return TIMEOUT;
}

const char* nvmlErrorString(int) { return "an error of the mock"; }
}
