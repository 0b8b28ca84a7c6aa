#pragma once

#include <cstdint>
#include <memory>

#include "base/precision.h"
#include "ir/graph.h"

namespace eigenscope {

// x [B, H, W, C], w [O, kh, kw, C/groups], y [B, OH, OW, O]; what pads after the last element is
// implied by the sizes.
struct ConvShape {
  int64_t B, H, W, C, OH, OW, O;
  Window window;
};

//   Forward (x, w) -> y      Input (y, w) -> x      Weight (x, y) -> w
enum class ConvForm : uint8_t { Forward, Input, Weight };

// Which operand carries a leading axis of K directions; the result then carries it too.
enum class Lead : uint8_t { None, First, Second };

// Which implementation; Auto takes oneDNN for f32 where it is present and has a fast kernel.
enum class ConvEngine : uint8_t { Auto, OneDnn, Im2col, Depthwise };

struct ConvPlan {
  ConvForm form;
  ConvShape shape;
  Lead lead;
  int64_t directions;  // K; 1 without a lead
  Precision precision;
  int64_t scratch = 0;  // bytes
  double flops = 0;     // of all K directions
  struct Engine;
  std::shared_ptr<const Engine> engine;

  const char* name() const;  // "oneDNN", "im2col", "depthwise"
};

// Plans are cheap to make again: oneDNN primitives (35-190 ms each) are cached for the process.
// `accumulate`: runs may ask for out += result. Throws Error (Internal) on sizes that do not fit.
// EIGENSCOPE_NO_ONEDNN=1 in the environment hides oneDNN. Asking for an engine that cannot do it
// is an Error (Internal) too.
ConvPlan planConv(ConvForm form, const ConvShape& shape, Lead lead, int64_t directions,
                  Precision precision, bool accumulate, ConvEngine engine = ConvEngine::Auto);

inline int64_t scratchBytes(const ConvPlan& plan) { return plan.scratch; }

// `scratch` holds scratchBytes, aligned to 64 bytes, and may be null when that is 0. Thread-safe.
template <class T>
void runConv(const ConvPlan& plan, const T* a, const T* b, T* out, bool accumulate, T* scratch);

}  // namespace eigenscope
