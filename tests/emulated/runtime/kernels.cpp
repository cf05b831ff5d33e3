/* Kernels. Those of libraries are machine code of a GPU and cannot be launched; of PTX one kind can: a kernel that takes its time. */

#include "emulated.h"

#include <cstring>

namespace {

int cannot_launch() {
    NEEDS(CONTEXT);
    set_last_error(NO_KERNEL_IMAGE);
    return NO_KERNEL_IMAGE;
}

} // namespace

struct Extent {
    unsigned x, y, z;
};

/* CUDA Runtime API, cudaLaunchKernel: launches a kernel of a library. Not emulated: such kernels are machine code of a GPU, so it returns
 * cudaErrorNoKernelImageForDevice. */
EXPORT cudaLaunchKernel(const void *, Extent, Extent, void **, size_t, void *) { return cannot_launch(); }

/* CUDA Runtime API, cudaLaunchKernel: what CUDA 13's `<<<>>>` calls in its place. Not emulated, as that. */
EXPORT __cudaLaunchKernel(const void *, Extent, Extent, void **, size_t, void *) { return cannot_launch(); }

/* CUDA Runtime API, cudaLaunchKernelExC: is cudaLaunchKernel with a cudaLaunchConfig_t. Not emulated, as that. */
EXPORT cudaLaunchKernelExC(const void *, const void *, void **) { return cannot_launch(); }

/* CUDA Runtime API, cudaLaunchCooperativeKernel: is cudaLaunchKernel for blocks that wait for each other. Not emulated, as that. */
EXPORT cudaLaunchCooperativeKernel(const void *, Extent, Extent, void **, size_t, void *) { return cannot_launch(); }

namespace {

/* A kernel of PTX, of which one kind can be run: it looks at the clock until so many nanoseconds have gone by, its one parameter. */
struct Module {
    std::string text;
};

struct Function {
    bool is_delay;
};

} // namespace

/* CUDA Driver API, cuModuleLoadData: loads a module from an image: PTX is compiled for the device. Not emulated: other images than PTX. */
EXPORT cuModuleLoadData(void **module, const char *image) {
    DRIVER_NEEDS(CONTEXT);
    std::string text(image, strnlen(image, size_t(1) << 20));
    if (text.find(".version") == std::string::npos) {
        return NO_KERNEL_IMAGE;
    }
    return *module = new Module{text}, SUCCESS;
}

/* CUDA Driver API, cuModuleLoadDataEx: is cuModuleLoadData with options for the compiler. Not emulated: the options. */
EXPORT cuModuleLoadDataEx(void **module, const char *image, unsigned, void *, void **) { return cuModuleLoadData(module, image); }

/* CUDA Driver API, cuModuleUnload: unloads a module; its functions must not be used any more. */
EXPORT cuModuleUnload(void *module) {
    DRIVER_NEEDS(CONTEXT);
    return delete static_cast<Module *>(module), SUCCESS;
}

/* CUDA Driver API, cuModuleGetFunction: stores a kernel of a module by its name; CUDA_ERROR_NOT_FOUND for one of none. */
EXPORT cuModuleGetFunction(void **function, void *module, const char *name) {
    DRIVER_NEEDS(CONTEXT);
    const std::string &text = static_cast<Module *>(module)->text;
    size_t begin = text.find(".entry " + std::string(name) + "(");
    if (begin == std::string::npos) {
        return NOT_FOUND;
    }
    std::string parameters = text.substr(begin, text.find(')', begin) - begin);
    bool takes_one = parameters.find(".u64") != std::string::npos && parameters.find(',') == std::string::npos;
    return *function = new Function{takes_one && text.find("%globaltimer", begin) != std::string::npos}, SUCCESS;
}

/* CUDA Driver API, cuLaunchKernel: launches a kernel in the order of a stream; the parameters are copied before it returns. Not emulated:
 * other kernels than one that looks at the clock until so many nanoseconds are over. */
EXPORT cuLaunchKernel(void *function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *stream, void **parameters,
                      void **) {
    DRIVER_NEEDS(CONTEXT);
    log_call("cuLaunchKernel %p", stream);
    if (!static_cast<Function *>(function)->is_delay) {
        return NO_KERNEL_IMAGE;
    }
    uint64_t nanoseconds;
    memcpy(&nanoseconds, parameters[0], sizeof nanoseconds); // parameters are copied when a kernel is launched
    return submit(stream_of(stream), [=] { delay(nanoseconds / 1000); });
}
