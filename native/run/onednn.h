#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "run/kernels/conv.h"

// oneDNN, loaded at run time through the C interface of version 2; the only place that knows it.
namespace eigenscope::onednn {

// False: not installed, hidden by EIGENSCOPE_NO_ONEDNN=1, a version this file does not know, or a
// build without its header.
bool available();
const std::string& version();  // "2.6.3"; empty when none was found
const std::string& refusal();  // why it is not used; empty when it is

// Row-major C = A B (+ C when accumulate), as cblas_sgemm. False when oneDNN is
// not there.
bool sgemm(bool transA, bool transB, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
           const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc);

// A convolution of one call (K on the batch axis stacked by the caller), weights in and out as
// plain OHWI. Null where oneDNN has no fast implementation. Cached by its arguments.
class Conv;
std::shared_ptr<const Conv> conv(ConvForm form, const ConvShape& shape, bool sum);
const std::string& implementation(const Conv& conv);  // oneDNN's name of the kernel
bool sums(const Conv& conv);  // out += result; otherwise out = result, whatever was asked
// Bytes for one call: the primitive's scratchpad and the reordered weights.
int64_t scratchBytes(const Conv& conv);

// Weights (Forward, Input) are brought into oneDNN's layout once by `prepare` and used by any
// number of `execute`; for Weight, `execute` takes x and y, and writes plain OHWI.
void prepare(const Conv& conv, const float* weights, void* scratch);
void execute(const Conv& conv, const float* a, const float* b, float* out, void* scratch);

}  // namespace eigenscope::onednn
