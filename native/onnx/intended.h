#pragma once

namespace eigenscope::onnx {

// The number that a float32 constant of a graph most likely stands for. A file rounds 0.01,
// sqrt(2) or 1/sqrt(d) to 24 bits; read literally in float64, every derivative would be off by
// 1e-8 from those of the model that was exported. The rule, for attributes and one-element
// constants, never for parameters: the shortest decimal, where it has at most 6 digits; else an
// integer's reciprocal, square or fourth root or the reciprocal of one, or a constant of analysis,
// where that rounds to the same float32; else the float32 itself. In float32 nothing changes.
double intendedNumber(float stored);

}  // namespace eigenscope::onnx
