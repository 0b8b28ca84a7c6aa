#include "run/kernels/conv.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "run/kernels/im2col.h"
#include "run/onednn.h"

namespace eigenscope {

// One call does `step` of the directions; what is added by hand lies in scratch first.
struct ConvPlan::Engine {
  ConvEngine kind;
  ConvShape shape;                                // of one call: directions stacked on B
  int64_t calls = 1;                              // directions looped over
  int64_t aStep = 0, bStep = 0, outStep = 0;      // elements from one call to the next
  int64_t outElements = 0;                        // of one call
  std::shared_ptr<const onednn::Conv> primitive;  // OneDnn
  bool sums = false;                              // the primitive adds to its result
  int64_t resultBytes = 0;                        // of scratch, for the result to be added by hand
};

namespace {

void check(const ConvShape& s) {
  const auto fail = [](const std::string& why) {
    throw Error(ErrorKind::Internal, "convolution: " + why);
  };
  const Window& w = s.window;
  if (w.groups < 1 || s.C % w.groups || s.O % w.groups)
    fail(std::to_string(w.groups) + " groups do not divide " + std::to_string(s.C) + " and " +
         std::to_string(s.O) + " channels");
  const int64_t in[] = {s.H, s.W}, out[] = {s.OH, s.OW};
  for (int i = 0; i < 2; ++i) {
    if (w.kernel[i] < 1 || w.stride[i] < 1 || w.dilation[i] < 1 || w.pad[i] < 0 || in[i] < 1 ||
        out[i] < 1)
      fail("sizes, strides and dilations are positive");
  }
}

int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

template <class T>
void one(const ConvPlan::Engine& engine, ConvForm form, const T* a, const T* b, T* out,
         bool accumulate, T* scratch) {
  if (engine.kind == ConvEngine::Depthwise)
    depthwise(engine.shape, form, a, b, out, accumulate, scratch);
  else
    im2col(engine.shape, form, a, b, out, accumulate, scratch);
}

}  // namespace

const char* ConvPlan::name() const {
  switch (engine->kind) {
    case ConvEngine::OneDnn: return "oneDNN";
    case ConvEngine::Depthwise: return "depthwise";
    default: return "im2col";
  }
}

ConvPlan planConv(ConvForm form, const ConvShape& shape, Lead lead, int64_t directions,
                  Precision precision, bool accumulate, ConvEngine wanted) {
  check(shape);
  const int64_t k = lead == Lead::None ? 1 : directions;
  const int64_t taps = shape.window.kernel[0] * shape.window.kernel[1];
  const int64_t x = shape.B * shape.H * shape.W * shape.C;
  const int64_t y = shape.B * shape.OH * shape.OW * shape.O;
  const int64_t w = shape.O * taps * (shape.C / shape.window.groups);

  auto engine = std::make_shared<ConvPlan::Engine>();
  engine->shape = shape;
  const int64_t a = form == ConvForm::Input ? y : x, b = form == ConvForm::Weight ? y : w;
  engine->outElements = form == ConvForm::Forward ? y : form == ConvForm::Input ? x : w;
  if (lead == Lead::First && form != ConvForm::Weight) {
    engine->shape.B *= k;
    engine->outElements *= k;
  } else {
    engine->calls = k;
    engine->aStep = lead == Lead::First ? a : 0;
    engine->bStep = lead == Lead::Second ? b : 0;
    engine->outStep = engine->outElements;
  }

  ConvPlan plan{form, shape, lead, k, precision, 0, 0, nullptr};
  plan.flops = 2.0 * static_cast<double>(k) * static_cast<double>(shape.B * shape.OH * shape.OW) *
               static_cast<double>(w);
  const int64_t size = static_cast<int64_t>(bytesOf(precision));
  // oneDNN pads the channels it writes to 16, which wastes most of the work here.
  const bool narrow = form == ConvForm::Input && shape.window.groups == 1 && shape.C < 8;
  const bool tries = wanted == ConvEngine::OneDnn || (wanted == ConvEngine::Auto && !narrow);
  if (precision == Precision::F32 && tries && engine->outElements > 0 && plan.flops > 0)
    engine->primitive = onednn::conv(form, engine->shape, accumulate);
  if (engine->primitive) {
    engine->kind = ConvEngine::OneDnn;
    engine->sums = accumulate && onednn::sums(*engine->primitive);
    if (accumulate && !engine->sums) engine->resultBytes = rounded(engine->outElements * size);
    plan.scratch = engine->resultBytes + onednn::scratchBytes(*engine->primitive);
  } else if (wanted == ConvEngine::OneDnn) {
    throw Error(ErrorKind::Internal, "convolution: oneDNN does not do this one");
  } else if (isDepthwise(shape) && wanted != ConvEngine::Im2col) {
    engine->kind = ConvEngine::Depthwise;
    plan.scratch = depthwiseScratch(engine->shape) * size;
  } else if (wanted == ConvEngine::Depthwise) {
    throw Error(ErrorKind::Internal, "convolution: not a depthwise one");
  } else {
    engine->kind = ConvEngine::Im2col;
    plan.scratch = im2colScratch(engine->shape, form, bytesOf(precision)) * size;
  }
  plan.engine = std::move(engine);
  return plan;
}

template <class T>
void runConv(const ConvPlan& plan, const T* a, const T* b, T* out, bool accumulate, T* scratch) {
  const auto& engine = *plan.engine;
  if (plan.flops == 0 || engine.outElements == 0) {
    if (!accumulate) std::fill_n(out, engine.calls * engine.outElements, T{});
    return;
  }
  for (int64_t i = 0; i < engine.calls; ++i) {
    const T* ai = a + i * engine.aStep;
    const T* bi = b + i * engine.bStep;
    T* to = out + i * engine.outStep;
    if constexpr (std::is_same_v<T, float>) {
      if (engine.kind == ConvEngine::OneDnn) {
        const auto& primitive = *engine.primitive;
        char* work = reinterpret_cast<char*>(scratch) + engine.resultBytes;
        if (plan.form != ConvForm::Weight && (i == 0 || engine.bStep != 0))
          onednn::prepare(primitive, bi, work);
        if (accumulate && !engine.sums) {
          onednn::execute(primitive, ai, bi, scratch, work);
          for (int64_t j = 0; j < engine.outElements; ++j) to[j] += scratch[j];
        } else {
          if (engine.sums && !accumulate) std::fill_n(to, engine.outElements, 0.0f);
          onednn::execute(primitive, ai, bi, to, work);
        }
        continue;
      }
    }
    one(engine, plan.form, ai, bi, to, accumulate, scratch);
  }
}

template void runConv<float>(const ConvPlan&, const float*, const float*, float*, bool, float*);
template void runConv<double>(const ConvPlan&, const double*, const double*, double*, bool,
                              double*);

}  // namespace eigenscope
