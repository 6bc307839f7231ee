// A CUDA driver for tests, without a GPU: what this project calls of it, over kernels that shim/ runs on
// the CPU. It refuses what the real one would: images that are none, kernels that an image does not
// have, addresses that were not given out, copies beyond them, launches beyond a device's limits, and
// anything but launches, copies and fills while a graph is captured, and kernels that are given memory of
// another device. Device memory begins as garbage.
//
// MOCK_CUDA_DEVICES is how many there are (1), MOCK_CUDA_CAPABILITY what they can do (9.0),
// MOCK_CUDA_MEMORY_MIB how much each has (8192), MOCK_CUDA_UUID the last number of the first's UUID (1).
// MOCK_CUDA_FAIL is what fails: "allocation:N", "launch:N", "late:N" (a launch, of which the next call
// tells) or "synchronize:N" is the N-th of these, from 1 on; after a launch has failed all calls do.
// MOCK_CUDA_SKIP is a kernel whose launches do nothing.
#include "../shim/shim.h"

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    STREAM_CAPTURE_UNSUPPORTED = 900,
};

const char* setting(const char* name, const char* otherwise) {
    const char* given = getenv(name);
    return given && *given ? given : otherwise;
}

struct Context {
    int ordinal;
    size_t used = 0;
};

struct Module {
    std::string image;
};

struct Function {
    const shim::Entry* entry;
    std::string name;
    unsigned shared_max = 48 << 10;
};

using Step = std::function<int()>;

struct Stream {
    bool is_captured = false;
    std::vector<Step> steps;
};

struct Graph {
    std::vector<Step> steps;
};

struct Memory {
    size_t bytes;
    Context* of;
};

std::map<uintptr_t, Memory> given_out;
std::map<int, Context> contexts;
thread_local Context* current;
int sticky;

// Whether the N-th of a kind is to fail.
bool fails(const char* kind) {
    static std::map<std::string, int> counts;
    int count = ++counts[kind];
    std::string wanted = setting("MOCK_CUDA_FAIL", "");
    return wanted == std::string(kind) + ":" + std::to_string(count);
}

// Whether all of these bytes were given out together, and on this side.
bool is_ours(uintptr_t from, size_t bytes) {
    auto after = given_out.upper_bound(from);
    if (after == given_out.begin()) return false;
    auto [begin, memory] = *std::prev(after);
    return from + bytes <= begin + memory.bytes;
}

int device_count() { return atoi(setting("MOCK_CUDA_DEVICES", "1")); }
size_t memory_bytes() { return size_t(atol(setting("MOCK_CUDA_MEMORY_MIB", "8192"))) << 20; }

// Pinned memory of the host, and what of it was given to a device to read, of which nobody knows yet
// that it is over: until then it must stay as it is.
std::map<uintptr_t, size_t> pinned;
std::map<const void*, std::string> being_read;
std::mutex of_host;

bool is_pinned(const void* from, size_t bytes) {
    auto after = pinned.upper_bound(reinterpret_cast<uintptr_t>(from));
    if (after == pinned.begin()) return false;
    auto [begin, length] = *std::prev(after);
    return reinterpret_cast<uintptr_t>(from) + bytes <= begin + length;
}

// Somebody waits for a device: what it read is as it was when it was given, or it read too late.
void see_what_was_read() {
    std::lock_guard guard(of_host);
    for (auto& [from, bytes] : being_read)
        if (memcmp(from, bytes.data(), bytes.size())) sticky = ILLEGAL_ADDRESS;
    being_read.clear();
}

// Now, or as a part of the graph that the stream records.
int perform(void* stream, Step step) {
    if (sticky) return sticky;
    if (!current) return INVALID_CONTEXT;
    auto* of = static_cast<Stream*>(stream);
    if (of && of->is_captured) {
        of->steps.push_back(std::move(step));
        return SUCCESS;
    }
    return step();
}

// Whether an address is of another device than the one that is current.
bool is_anothers(uintptr_t at) {
    auto after = given_out.upper_bound(at);
    if (after == given_out.begin()) return false;
    auto [begin, memory] = *std::prev(after);
    return at < begin + memory.bytes && memory.of != current;
}

int copy(void* stream, uintptr_t to, uintptr_t from, size_t bytes, bool is_to_ours, bool is_from_ours) {
    if (is_to_ours && !is_ours(to, bytes)) return INVALID_VALUE;
    if (is_from_ours && !is_ours(from, bytes)) return INVALID_VALUE;
    return perform(stream, [=] {
        memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes);
        return SUCCESS;
    });
}

bool is_cubin(const std::string& image) {
    return image.size() > 64 && !image.compare(0, 4, "\177ELF") && uint8_t(image[18]) == 190;
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return device_count() ? SUCCESS : NO_DEVICE; }

int cuDriverGetVersion(int* version) {
    *version = 12080;
    return SUCCESS;
}

int cuDeviceGetCount(int* count) {
    *count = device_count();
    return SUCCESS;
}

int cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < device_count() ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetName(char* name, int bytes, int device) {
    snprintf(name, bytes, "Mock GPU %d", device);
    return SUCCESS;
}

int cuDeviceGetUuid(char* uuid, int device) {
    memset(uuid, 0, 16);
    uuid[15] = static_cast<char>(device + atoi(setting("MOCK_CUDA_UUID", "1")));
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = memory_bytes();
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int which, int) {
    int major = 9, minor = 0;
    sscanf(setting("MOCK_CUDA_CAPABILITY", "9.0"), "%d.%d", &major, &minor);
    switch (which) {
        case 16: *value = 132; break;            // multiprocessors
        case 75: *value = major; break;
        case 76: *value = minor; break;
        case 97: *value = 227 << 10; break;      // shared bytes a block may opt in to
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
    if (device < 0 || device >= device_count()) return INVALID_DEVICE;
    contexts[device].ordinal = device;
    *context = &contexts[device];
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

int cuCtxSetCurrent(void* context) {
    current = static_cast<Context*>(context);
    return SUCCESS;
}

int cuCtxSynchronize() {
    if (fails("synchronize")) sticky = ILLEGAL_ADDRESS;
    return sticky;
}

int cuMemGetInfo_v2(size_t* available, size_t* total) {
    if (!current) return INVALID_CONTEXT;
    *total = memory_bytes();
    *available = *total - current->used;
    return sticky;
}

int cuMemAlloc_v2(uintptr_t* at, size_t bytes) {
    if (sticky) return sticky;
    if (!current) return INVALID_CONTEXT;
    if (!bytes) return INVALID_VALUE;
    if (fails("allocation") || current->used + bytes > memory_bytes()) return OUT_OF_MEMORY;
    void* memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!memory) return OUT_OF_MEMORY;
    memset(memory, 0xff, bytes);
    *at = reinterpret_cast<uintptr_t>(memory);
    given_out[*at] = {bytes, current};
    current->used += bytes;
    return SUCCESS;
}

int cuMemFree_v2(uintptr_t at) {
    auto found = given_out.find(at);
    if (found == given_out.end()) return INVALID_VALUE;
    found->second.of->used -= found->second.bytes;
    given_out.erase(found);
    free(reinterpret_cast<void*>(at));
    return SUCCESS;
}

int cuMemHostAlloc(void** at, size_t bytes, unsigned) {
    if (sticky) return sticky;
    if (!bytes) return INVALID_VALUE;
    *at = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!*at) return OUT_OF_MEMORY;
    memset(*at, 0xff, bytes);
    std::lock_guard guard(of_host);
    pinned[reinterpret_cast<uintptr_t>(*at)] = bytes;
    return SUCCESS;
}

int cuMemFreeHost(void* at) {
    see_what_was_read();
    std::lock_guard guard(of_host);
    if (!pinned.erase(reinterpret_cast<uintptr_t>(at))) return INVALID_VALUE;
    free(at);
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t bytes, void* stream) {
    {
        std::lock_guard guard(of_host);
        if (is_pinned(from, bytes))
            being_read[from] = std::string(static_cast<const char*>(from), bytes);
    }
    return copy(stream, to, reinterpret_cast<uintptr_t>(from), bytes, true, false);
}

int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t bytes, void* stream) {
    return copy(stream, reinterpret_cast<uintptr_t>(to), from, bytes, false, true);
}

int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void* stream) {
    return copy(stream, to, from, bytes, true, true);
}

int cuMemcpyPeerAsync(uintptr_t to, void* here, uintptr_t from, void* there, size_t bytes, void* stream) {
    if (!is_ours(to, bytes) || !is_ours(from, bytes)) return INVALID_VALUE;
    auto context = [](uintptr_t at) { return std::prev(given_out.upper_bound(at))->second.of; };
    if (context(to) != here || context(from) != there) return INVALID_CONTEXT;
    return copy(stream, to, from, bytes, true, true);
}

int cuMemsetD8Async(uintptr_t at, unsigned char value, size_t bytes, void* stream) {
    if (!is_ours(at, bytes)) return INVALID_VALUE;
    return perform(stream, [=] {
        memset(reinterpret_cast<void*>(at), value, bytes);
        return SUCCESS;
    });
}

int cuStreamCreate(void** stream, unsigned) {
    *stream = new Stream;
    return SUCCESS;
}

int cuStreamDestroy_v2(void* stream) {
    delete static_cast<Stream*>(stream);
    return SUCCESS;
}

int cuStreamSynchronize(void* stream) {
    if (static_cast<Stream*>(stream)->is_captured) return STREAM_CAPTURE_UNSUPPORTED;
    if (fails("synchronize")) sticky = ILLEGAL_ADDRESS;
    see_what_was_read();
    return sticky;
}

// What was asked for is done at once: an event has come to pass when it is recorded.
int cuEventCreate(void** event, unsigned) {
    *event = new bool(false);
    return sticky;
}

int cuEventRecord(void* event, void* stream) {
    if (static_cast<Stream*>(stream)->is_captured) return STREAM_CAPTURE_UNSUPPORTED;
    *static_cast<bool*>(event) = true;
    return sticky;
}

int cuEventSynchronize(void* event) {
    if (!*static_cast<bool*>(event)) return INVALID_VALUE;
    see_what_was_read();
    return sticky;
}

int cuEventDestroy_v2(void* event) {
    delete static_cast<bool*>(event);
    return SUCCESS;
}

int cuStreamBeginCapture_v2(void* stream, int) {
    auto* of = static_cast<Stream*>(stream);
    if (sticky) return sticky;
    of->is_captured = true;
    of->steps.clear();
    return SUCCESS;
}

int cuStreamEndCapture(void* stream, void** graph) {
    auto* of = static_cast<Stream*>(stream);
    of->is_captured = false;
    *graph = new Graph{std::move(of->steps)};
    return sticky;
}

int cuGraphInstantiateWithFlags(void** ready, void* graph, unsigned long long) {
    *ready = new Graph(*static_cast<Graph*>(graph));
    return sticky;
}

int cuGraphLaunch(void* ready, void* stream) {
    for (const Step& step : static_cast<Graph*>(ready)->steps)
        if (int failed = perform(stream, step)) return failed;
    return SUCCESS;
}

int cuGraphExecDestroy(void* ready) {
    delete static_cast<Graph*>(ready);
    return SUCCESS;
}

int cuGraphDestroy(void* graph) {
    delete static_cast<Graph*>(graph);
    return SUCCESS;
}

int cuModuleLoadData(void** module, const void* image) {
    // A cubin's length is in its header: where the section headers end. PTX is text.
    const char* bytes = static_cast<const char*>(image);
    std::string own;
    if (!memcmp(bytes, "\177ELF", 4)) {
        uint64_t sections;
        uint16_t size, count;
        memcpy(&sections, bytes + 40, 8);
        memcpy(&size, bytes + 58, 2);
        memcpy(&count, bytes + 60, 2);
        own.assign(bytes, sections + size_t(size) * count);
        if (!is_cubin(own)) return INVALID_IMAGE;
    } else {
        own = bytes;
        if (own.find(".version") == std::string::npos) return INVALID_IMAGE;
    }
    *module = new Module{own};
    return sticky;
}

int cuModuleUnload(void* module) {
    delete static_cast<Module*>(module);
    return SUCCESS;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
    const shim::Entry* entry = shim::find(name);
    const std::string& image = static_cast<Module*>(module)->image;
    // The image's own list of names, be it ELF's or PTX.
    bool is_named = image.find(is_cubin(image) ? std::string(".text.") + name + '\0'
                                               : std::string(".entry ") + name + "(") !=
                    std::string::npos;
    if (!entry || !is_named) return NOT_FOUND;
    *function = new Function{entry, name};
    return SUCCESS;
}

int cuFuncSetAttribute(void* function, int which, int value) {
    if (which != 8 || value > 227 << 10) return INVALID_VALUE;
    static_cast<Function*>(function)->shared_max = value;
    return SUCCESS;
}

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared_bytes, void* stream, void** params, void** extra) {
    auto* of = static_cast<Function*>(function);
    if (extra || !gx || !gy || !gz || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if (!bx || !by || !bz || bx * by * bz > 1024 || shared_bytes > of->shared_max)
        return INVALID_VALUE;
    // Arguments are taken now, as the driver does.
    std::vector<std::vector<char>> values;
    for (int i = 0; i < of->entry->count; i++) {
        auto* from = static_cast<char*>(params[i]);
        values.emplace_back(from, from + of->entry->sizes[i]);
        uintptr_t at = 0;
        if (of->entry->sizes[i] == sizeof at) memcpy(&at, from, sizeof at);
        if (is_anothers(at)) return ILLEGAL_ADDRESS;
    }
    return perform(stream, [=]() mutable {
        if (fails("launch")) return sticky = LAUNCH_FAILED;
        if (fails("late")) {
            sticky = LAUNCH_FAILED;
            return int(SUCCESS);
        }
        if (of->name == setting("MOCK_CUDA_SKIP", "")) return int(SUCCESS);
        std::vector<void*> at;
        for (auto& value : values) at.push_back(value.data());
        shim::launch(*of->entry, {gx, gy, gz}, {bx, by, bz}, shared_bytes, at.data());
        return int(SUCCESS);
    });
}

int cuGetErrorName(int error, const char** name) {
    switch (error) {
        case NO_DEVICE: *name = "CUDA_ERROR_NO_DEVICE"; break;
        case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
        case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
        case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
        case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
        default: *name = "CUDA_ERROR_OF_THE_MOCK"; break;
    }
    return SUCCESS;
}

int cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }
}
