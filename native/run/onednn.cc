#include "run/onednn.h"

#include <cstdlib>

#ifdef EIGENSCOPE_HAVE_DNNL_HEADER

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>

#include "base/error.h"

static_assert(DNNL_VERSION_MAJOR == 2, "the structures of the C interface are those of version 2");

namespace eigenscope::onednn {
namespace {

#define EIGENSCOPE_DNNL(X)                               \
  X(dnnl_engine_create)                                  \
  X(dnnl_stream_create)                                  \
  X(dnnl_stream_wait)                                    \
  X(dnnl_stream_destroy)                                 \
  X(dnnl_memory_desc_init_by_strides)                    \
  X(dnnl_memory_desc_init_by_tag)                        \
  X(dnnl_memory_desc_equal)                              \
  X(dnnl_memory_desc_get_size)                           \
  X(dnnl_memory_create)                                  \
  X(dnnl_memory_destroy)                                 \
  X(dnnl_primitive_attr_create)                          \
  X(dnnl_primitive_attr_destroy)                         \
  X(dnnl_primitive_attr_set_scratchpad_mode)             \
  X(dnnl_primitive_attr_set_post_ops)                    \
  X(dnnl_post_ops_create)                                \
  X(dnnl_post_ops_destroy)                               \
  X(dnnl_post_ops_append_sum)                            \
  X(dnnl_primitive_desc_create)                          \
  X(dnnl_primitive_desc_destroy)                         \
  X(dnnl_primitive_desc_query)                           \
  X(dnnl_primitive_desc_query_md)                        \
  X(dnnl_reorder_primitive_desc_create)                  \
  X(dnnl_primitive_create)                               \
  X(dnnl_primitive_destroy)                              \
  X(dnnl_primitive_execute)                              \
  X(dnnl_dilated_convolution_forward_desc_init)          \
  X(dnnl_dilated_convolution_backward_data_desc_init)    \
  X(dnnl_dilated_convolution_backward_weights_desc_init) \
  X(dnnl_sgemm)

struct Library {
#define X(name) decltype(&::name) name = nullptr;
  EIGENSCOPE_DNNL(X)
#undef X
  void (*omp_set_num_threads)(int) = nullptr;
  dnnl_engine_t engine = nullptr;
  std::string version, refusal;

  Library() {
    const char* hidden = std::getenv("EIGENSCOPE_NO_ONEDNN");
    if (hidden && *hidden && std::string(hidden) != "0") {
      refusal = "hidden by EIGENSCOPE_NO_ONEDNN";
      return;
    }
    // Version 3 has another name, libdnnl.so.3, and is looked for only to say so.
    void* handle = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
      void* newer = dlopen("libdnnl.so.3", RTLD_LAZY | RTLD_LOCAL);
      refusal = newer ? "libdnnl.so.3 is there, but only version 2 is known"
                      : "libdnnl.so.2 was not found";
      if (newer) dlclose(newer);
      return;
    }
    const auto version_of =
        reinterpret_cast<decltype(&dnnl_version)>(dlsym(handle, "dnnl_version"));
    if (!version_of) {
      refusal = "libdnnl.so.2 does not tell its version";
      return;
    }
    const dnnl_version_t* found = version_of();
    version = std::to_string(found->major) + '.' + std::to_string(found->minor) + '.' +
              std::to_string(found->patch);
    if (found->major != 2) {
      refusal = "version " + version + " is installed, but only version 2 is known";
      return;
    }
#define X(name)                                                     \
  name = reinterpret_cast<decltype(&::name)>(dlsym(handle, #name)); \
  if (!name) refusal = "version " + version + " lacks " #name;
    EIGENSCOPE_DNNL(X)
#undef X
    // The environment may allow bfloat16 inside float32 primitives; ours are exact.
    const auto set_math = reinterpret_cast<decltype(&dnnl_set_default_fpmath_mode)>(
        dlsym(handle, "dnnl_set_default_fpmath_mode"));
    if (set_math) set_math(dnnl_fpmath_mode_strict);
    // Also finds the symbol in the OpenMP library that it was linked with.
    omp_set_num_threads = reinterpret_cast<void (*)(int)>(dlsym(handle, "omp_set_num_threads"));
    if (refusal.empty() && dnnl_engine_create(&engine, dnnl_cpu, 0) != dnnl_success)
      refusal = "version " + version + " has no CPU engine";
  }
};

// Never unloaded: its OpenMP threads and our caches may outlive everything else.
const Library& library() {
  static const Library* instance = new Library;
  return *instance;
}

void must(dnnl_status_t status, const char* what) {
  if (status != dnnl_success)
    throw Error(ErrorKind::Internal, std::string("oneDNN: ") + what + " failed with status " +
                                         std::to_string(static_cast<int>(status)));
}

// Each thread that calls oneDNN is one OpenMP team of one; otherwise every caller gets its own team
// of all cores. A stream belongs to one thread.
struct Caller {
  dnnl_stream_t stream = nullptr;
  Caller() {
    const Library& dnnl = library();
    if (dnnl.omp_set_num_threads) dnnl.omp_set_num_threads(1);
    must(dnnl.dnnl_stream_create(&stream, dnnl.engine, dnnl_stream_default_flags), "a stream");
  }
  ~Caller() { library().dnnl_stream_destroy(stream); }
};
Caller& caller() {
  thread_local Caller instance;
  return instance;
}

class Memory {
 public:
  Memory(const dnnl_memory_desc_t& desc, const void* data) {
    must(library().dnnl_memory_create(&memory_, &desc, library().engine, const_cast<void*>(data)),
         "a memory object");
  }
  ~Memory() { library().dnnl_memory_destroy(memory_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  dnnl_memory_t get() const { return memory_; }

 private:
  dnnl_memory_t memory_ = nullptr;
};

struct Attributes {
  dnnl_primitive_attr_t attr = nullptr;
  explicit Attributes(bool sum) {
    const Library& dnnl = library();
    must(dnnl.dnnl_primitive_attr_create(&attr), "attributes");
    dnnl.dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (!sum) return;
    dnnl_post_ops_t ops = nullptr;
    must(dnnl.dnnl_post_ops_create(&ops), "post-operations");
    dnnl.dnnl_post_ops_append_sum(ops, 1.0f);
    dnnl.dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl.dnnl_post_ops_destroy(ops);
  }
  ~Attributes() { library().dnnl_primitive_attr_destroy(attr); }
};

int64_t rounded(size_t bytes) { return (static_cast<int64_t>(bytes) + 63) / 64 * 64; }

// A primitive with the scratchpad it wants.
struct Primitive {
  dnnl_primitive_t primitive = nullptr;
  dnnl_memory_desc_t scratchpad{};
  int64_t scratchBytes = 0;

  Primitive() = default;
  Primitive(const Primitive&) = delete;
  Primitive& operator=(const Primitive&) = delete;
  ~Primitive() {
    if (primitive) library().dnnl_primitive_destroy(primitive);
  }
  void create(dnnl_primitive_desc_t desc) {
    const Library& dnnl = library();
    scratchpad = *dnnl.dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
    scratchBytes = rounded(dnnl.dnnl_memory_desc_get_size(&scratchpad));
    must(dnnl.dnnl_primitive_create(&primitive, desc), "a primitive");
  }
};

struct Description {
  dnnl_primitive_desc_t desc = nullptr;
  ~Description() {
    if (desc) library().dnnl_primitive_desc_destroy(desc);
  }
};

}  // namespace

class Conv {
 public:
  Conv(ConvForm form, const ConvShape& s, bool sum) : form_(form), sums_(sum) {
    const Library& dnnl = library();
    const Window& w = s.window;
    const int64_t channels = s.C / w.groups, outputs = s.O / w.groups;
    const dnnl_dims_t xDims = {s.B, s.C, s.H, s.W}, yDims = {s.B, s.O, s.OH, s.OW};
    dnnl.dnnl_memory_desc_init_by_tag(&x_, 4, xDims, dnnl_f32, dnnl_nhwc);
    dnnl.dnnl_memory_desc_init_by_tag(&y_, 4, yDims, dnnl_f32, dnnl_nhwc);

    // Ours is [O, kh, kw, C/g]; theirs goes by the logical order (g,) O, C, kh, kw.
    const int64_t kh = w.kernel[0], kw = w.kernel[1];
    const int64_t row = kh * kw * channels;
    dnnl_memory_desc_t any{};
    if (w.groups == 1) {
      const dnnl_dims_t dims = {s.O, s.C, kh, kw}, strides = {row, 1, kw * channels, channels};
      dnnl.dnnl_memory_desc_init_by_strides(&plain_, 4, dims, dnnl_f32, strides);
      dnnl.dnnl_memory_desc_init_by_tag(&any, 4, dims, dnnl_f32, dnnl_format_tag_any);
    } else {
      const dnnl_dims_t dims = {w.groups, outputs, channels, kh, kw},
                        strides = {outputs * row, row, 1, kw * channels, channels};
      dnnl.dnnl_memory_desc_init_by_strides(&plain_, 5, dims, dnnl_f32, strides);
      dnnl.dnnl_memory_desc_init_by_tag(&any, 5, dims, dnnl_f32, dnnl_format_tag_any);
    }

    const auto after = [&](int axis, int64_t in, int64_t out) {
      return (out - 1) * w.stride[axis] + (w.kernel[axis] - 1) * w.dilation[axis] + 1 - in -
             w.pad[axis];
    };
    const dnnl_dims_t strides = {w.stride[0], w.stride[1]};
    const dnnl_dims_t dilates = {w.dilation[0] - 1, w.dilation[1] - 1};
    const dnnl_dims_t before = {w.pad[0], w.pad[1]};
    const dnnl_dims_t behind = {after(0, s.H, s.OH), after(1, s.W, s.OW)};

    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_success;
    switch (form) {
      case ConvForm::Forward:
        status = dnnl.dnnl_dilated_convolution_forward_desc_init(
            &desc, dnnl_forward_training, dnnl_convolution_direct, &x_, &any, nullptr, &y_, strides,
            dilates, before, behind);
        break;
      case ConvForm::Input:
        status = dnnl.dnnl_dilated_convolution_backward_data_desc_init(
            &desc, dnnl_convolution_direct, &x_, &any, &y_, strides, dilates, before, behind);
        break;
      case ConvForm::Weight:
        status = dnnl.dnnl_dilated_convolution_backward_weights_desc_init(
            &desc, dnnl_convolution_direct, &x_, &any, nullptr, &y_, strides, dilates, before,
            behind);
        break;
    }
    if (status != dnnl_success) return;

    // Backward needs a forward description as a hint.
    Description hint, description;
    if (form != ConvForm::Forward) {
      dnnl_convolution_desc_t forward;
      Attributes plainly(false);
      if (dnnl.dnnl_dilated_convolution_forward_desc_init(
              &forward, dnnl_forward_training, dnnl_convolution_direct, &x_, &any, nullptr, &y_,
              strides, dilates, before, behind) != dnnl_success ||
          dnnl.dnnl_primitive_desc_create(&hint.desc, &forward, plainly.attr, dnnl.engine,
                                          nullptr) != dnnl_success)
        return;
    }
    Attributes attributes(sum);
    if (dnnl.dnnl_primitive_desc_create(&description.desc, &desc, attributes.attr, dnnl.engine,
                                        hint.desc) != dnnl_success)
      return;
    const char* name = nullptr;
    dnnl.dnnl_primitive_desc_query(description.desc, dnnl_query_impl_info_str, 0, &name);
    implementation_ = name ? name : "";
    // Their reference loops and their own im2col are slower than ours.
    if (implementation_.find("ref") != std::string::npos || implementation_.find("gemm") == 0)
      return;
    const auto which =
        form == ConvForm::Weight ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    weights_ = *dnnl.dnnl_primitive_desc_query_md(description.desc, which, 0);
    conv_.create(description.desc);
    reorders_ = !dnnl.dnnl_memory_desc_equal(&weights_, &plain_);
    if (reorders_) {
      Description turn;
      const auto& from = form == ConvForm::Weight ? weights_ : plain_;
      const auto& to = form == ConvForm::Weight ? plain_ : weights_;
      Attributes plainly(false);
      must(dnnl.dnnl_reorder_primitive_desc_create(&turn.desc, &from, dnnl.engine, &to, dnnl.engine,
                                                   plainly.attr),
           "a reorder");
      reorder_.create(turn.desc);
    }
    weightBytes_ = rounded(dnnl.dnnl_memory_desc_get_size(&weights_));
    usable_ = true;
  }

  bool usable() const { return usable_; }
  bool sums() const { return sums_; }
  int64_t scratchBytes() const {
    return weightBytes_ + std::max(conv_.scratchBytes, reorder_.scratchBytes);
  }
  const std::string& implementation() const { return implementation_; }

  void prepare(const float* weights, void* scratch) const { turn(weights, scratch, scratch); }

  void execute(const float* a, const float* b, float* out, void* scratch) const {
    switch (form_) {
      case ConvForm::Forward:
        call({DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}, {&x_, &weights_, &y_},
             {a, scratch, out}, scratch);
        break;
      case ConvForm::Input:
        call({DNNL_ARG_DIFF_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_SRC}, {&y_, &weights_, &x_},
             {a, scratch, out}, scratch);
        break;
      case ConvForm::Weight:
        call({DNNL_ARG_SRC, DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_WEIGHTS}, {&x_, &y_, &weights_},
             {a, b, reorders_ ? scratch : out}, scratch);
        if (reorders_) turn(scratch, out, scratch);
        break;
    }
  }

 private:
  void* padOf(void* scratch) const { return static_cast<char*>(scratch) + weightBytes_; }

  void turn(const void* from, void* to, void* scratch) const {
    const Library& dnnl = library();
    const bool out = form_ == ConvForm::Weight;
    if (!reorders_) {
      std::copy_n(static_cast<const char*>(from), dnnl.dnnl_memory_desc_get_size(&plain_),
                  static_cast<char*>(to));
      return;
    }
    Memory source(out ? weights_ : plain_, from), target(out ? plain_ : weights_, to);
    Memory pad(reorder_.scratchpad, padOf(scratch));
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source.get()},
                                    {DNNL_ARG_TO, target.get()},
                                    {DNNL_ARG_SCRATCHPAD, pad.get()}};
    must(dnnl.dnnl_primitive_execute(reorder_.primitive, caller().stream, 3, args), "a reorder");
  }

  void call(const std::array<int, 3>& names, const std::array<const dnnl_memory_desc_t*, 3>& descs,
            const std::array<const void*, 3>& data, void* scratch) const {
    Memory first(*descs[0], data[0]), second(*descs[1], data[1]), third(*descs[2], data[2]);
    Memory pad(conv_.scratchpad, padOf(scratch));
    const dnnl_exec_arg_t args[] = {{names[0], first.get()},
                                    {names[1], second.get()},
                                    {names[2], third.get()},
                                    {DNNL_ARG_SCRATCHPAD, pad.get()}};
    must(library().dnnl_primitive_execute(conv_.primitive, caller().stream, 4, args),
         "a convolution");
  }

  ConvForm form_;
  bool sums_, reorders_ = false, usable_ = false;
  dnnl_memory_desc_t x_{}, y_{}, plain_{}, weights_{};
  Primitive conv_, reorder_;
  int64_t weightBytes_ = 0;
  std::string implementation_;
};

bool available() { return library().refusal.empty(); }
const std::string& version() { return library().version; }
const std::string& refusal() { return library().refusal; }

bool sgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
           const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  if (!available()) return false;
  caller();
  return library().dnnl_sgemm(transA ? 'T' : 'N', transB ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb,
                              accumulate ? 1.0f : 0.0f, c, ldc) == dnnl_success;
}

std::shared_ptr<const Conv> conv(ConvForm form, const ConvShape& s, bool sum) {
  if (!available()) return nullptr;
  const bool sums = sum && form == ConvForm::Forward;
  const Window& w = s.window;
  using Key = std::array<int64_t, 18>;
  const Key key{static_cast<int64_t>(form),
                sums,
                s.B,
                s.H,
                s.W,
                s.C,
                s.OH,
                s.OW,
                s.O,
                w.kernel[0],
                w.kernel[1],
                w.stride[0],
                w.stride[1],
                w.dilation[0],
                w.dilation[1],
                w.pad[0],
                w.pad[1],
                w.groups};
  struct Entry {
    std::once_flag once;
    std::shared_ptr<const Conv> conv;
  };
  static std::mutex mutex;
  static auto* cache = new std::map<Key, Entry>;
  Entry* entry;
  {
    std::lock_guard lock(mutex);
    entry = &(*cache)[key];  // map entries stay where they are
  }
  // Different primitives may be made at once.
  std::call_once(entry->once, [&] {
    caller();  // kernels are generated for the number of threads of the moment
    try {
      auto made = std::make_shared<const Conv>(form, s, sums);
      if (made->usable()) entry->conv = std::move(made);
    } catch (const Error&) {
      // What oneDNN cannot make is done without it.
    }
  });
  return entry->conv;
}

bool sums(const Conv& conv) { return conv.sums(); }
int64_t scratchBytes(const Conv& conv) { return conv.scratchBytes(); }
const std::string& implementation(const Conv& conv) { return conv.implementation(); }
void prepare(const Conv& conv, const float* weights, void* scratch) {
  conv.prepare(weights, scratch);
}
void execute(const Conv& conv, const float* a, const float* b, float* out, void* scratch) {
  conv.execute(a, b, out, scratch);
}

}  // namespace eigenscope::onednn

#else

namespace eigenscope::onednn {

class Conv {};

bool available() { return false; }
const std::string& version() {
  static const std::string none;
  return none;
}
const std::string& refusal() {
  static const std::string why = "this build was made without the oneDNN 2 header";
  return why;
}
bool sgemm(bool, bool, int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
           bool, float*, int64_t) {
  return false;
}
std::shared_ptr<const Conv> conv(ConvForm, const ConvShape&, bool) { return nullptr; }
bool sums(const Conv&) { return false; }
int64_t scratchBytes(const Conv&) { return 0; }
const std::string& implementation(const Conv&) { return version(); }
void prepare(const Conv&, const float*, void*) {}
void execute(const Conv&, const float*, const float*, float*, void*) {}

}  // namespace eigenscope::onednn

#endif
