#include "run/fused.h"

#include <algorithm>

#include "run/elementwise.h"

namespace eigenscope {

template <class T>
FusedKernel<T>::FusedKernel(const FusedLoop& loop) {
  // Neighbouring axes along which every operand runs on, or stands still, are one.
  std::vector<std::vector<int64_t>> strides(loop.inputs.size());
  for (size_t a = 0; a < loop.iteration.size(); ++a) {
    const int64_t size = loop.iteration[a];
    total_ *= size;
    if (size == 1) continue;
    bool merges = !dims_.empty();
    for (size_t i = 0; i < strides.size() && merges; ++i)
      merges = strides[i].back() == loop.inputs[i].strides[a] * size;
    if (merges) {
      dims_.back() *= size;
      for (size_t i = 0; i < strides.size(); ++i) strides[i].back() = loop.inputs[i].strides[a];
    } else {
      dims_.push_back(size);
      for (size_t i = 0; i < strides.size(); ++i) strides[i].push_back(loop.inputs[i].strides[a]);
    }
  }
  if (dims_.empty()) {
    dims_.push_back(1);
    for (auto& s : strides) s.push_back(0);
  }
  const size_t values = loop.inputs.size() + loop.codes.size();
  slotOf_.assign(values, -1);
  outputOf_.assign(values, -1);

  for (size_t i = 0; i < loop.inputs.size(); ++i) {
    Input input{loop.inputs[i].type, strides[i], strides[i].back(), Way::Convert, -1};
    const bool still =
        std::all_of(input.strides.begin(), input.strides.end(), [](int64_t s) { return s == 0; });
    if (still)
      input.way = Way::Splat;
    else if (input.type == Type::Real && input.inner == 1)
      input.way = Way::Direct;
    if (input.way == Way::Direct) {
      input.dense = input.repeats = true;
      for (size_t a = dims_.size() - 1; a-- > 0;) {
        input.dense = input.dense && input.strides[a] == input.strides[a + 1] * dims_[a + 1];
        input.repeats = input.repeats && input.strides[a] == 0;
      }
    }
    // A Direct operand may still need its tile where rows are short.
    input.slot = slots_++;
    slotOf_[i] = input.slot;
    inputs_.push_back(std::move(input));
  }

  for (size_t o = 0; o < loop.outputs.size(); ++o) {
    outputs_.push_back({loop.outputs[o].value, loop.outputs[o].type});
    if (loop.outputs[o].type == Type::Real) outputOf_[loop.outputs[o].value] = static_cast<int>(o);
  }

  // Tile buffers of results are reused once nobody reads them any more.
  std::vector<int> last(values, -1);
  for (size_t c = 0; c < loop.codes.size(); ++c)
    for (int v : loop.codes[c].operand)
      if (v >= 0) last[v] = static_cast<int>(c);
  for (const auto& output : loop.outputs) last[output.value] = static_cast<int>(loop.codes.size());
  std::vector<int> free;
  const int inputCount = static_cast<int>(loop.inputs.size());
  for (size_t c = 0; c < loop.codes.size(); ++c) {
    const auto& from = loop.codes[c];
    Code code{tileOperation<T>(from.op, from.type), from.result, {}, from.number};
    for (int i = 0; i < 3; ++i)
      code.operand[i] = from.operand[i] < 0 ? from.operand[0] : from.operand[i];
    if (outputOf_[from.result] < 0) {
      if (free.empty()) free.push_back(slots_++);
      slotOf_[from.result] = free.back();
      free.pop_back();
    }
    for (int v : from.operand)
      if (v >= inputCount && last[v] == static_cast<int>(c) && slotOf_[v] >= 0) {
        free.push_back(slotOf_[v]);
        last[v] = -2;
      }
    codes_.push_back(code);
  }
}

template <class T>
int64_t FusedKernel<T>::scratchBytes() const {
  return slots_ * kTile * static_cast<int64_t>(sizeof(T)) +
         static_cast<int64_t>(slotOf_.size() * sizeof(T*)) + 64;
}

namespace {

template <class T, class From>
void convert(const From* from, int64_t stride, int64_t n, T* to) {
  if (stride == 0)
    std::fill_n(to, n, static_cast<T>(*from));
  else if (stride == 1)
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i]);
  else
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<T>(from[i * stride]);
}

}  // namespace

// Elements [begin, begin + n) of the iteration, as this operand sees them.
template <class T>
void FusedKernel<T>::fill(const Input& input, const void* base, int64_t begin, int64_t n,
                          T* tile) const {
  const size_t rank = dims_.size();
  const int64_t row = dims_.back();
  if (input.repeats && rank > 1) {
    const T* from = static_cast<const T*>(base);
    const int64_t offset = begin % row, first = std::min(n, row - offset);
    std::copy_n(from + offset, first, tile);
    std::copy_n(from, std::min(row, n - first), tile + first);
    // What is there is a whole number of rows: twice as much each time.
    for (int64_t made = row; first + made < n; made *= 2)
      std::copy_n(tile + first, std::min(made, n - first - made), tile + first + made);
    return;
  }
  while (n > 0) {
    int64_t rest = begin / row, offset = begin % row;
    const int64_t run = std::min(n, row - offset);
    offset *= input.inner;
    for (size_t a = rank - 1; a-- > 0;) {
      offset += rest % dims_[a] * input.strides[a];
      rest /= dims_[a];
    }
    switch (input.type) {
      case Type::Real: convert(static_cast<const T*>(base) + offset, input.inner, run, tile); break;
      case Type::Int:
        convert(static_cast<const int32_t*>(base) + offset, input.inner, run, tile);
        break;
      case Type::Bool:
        convert(static_cast<const uint8_t*>(base) + offset, input.inner, run, tile);
        break;
    }
    begin += run;
    n -= run;
    tile += run;
  }
}

template <class T>
void FusedKernel<T>::runTile(int64_t begin, int64_t n, const void* const* in, void* const* out,
                             const T** values, T* tiles) const {
  const int64_t row = dims_.back();
  const bool inRow = begin / row == (begin + n - 1) / row;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Input& input = inputs_[i];
    if (input.way == Way::Splat) continue;
    if (input.dense) {
      values[i] = static_cast<const T*>(in[i]) + begin;
      continue;
    }
    if (input.way == Way::Direct && inRow) {
      int64_t rest = begin / row, offset = begin % row;
      for (size_t a = dims_.size() - 1; a-- > 0;) {
        offset += rest % dims_[a] * input.strides[a];
        rest /= dims_[a];
      }
      values[i] = static_cast<const T*>(in[i]) + offset;
      continue;
    }
    T* tile = tiles + input.slot * kTile;
    fill(input, in[i], begin, n, tile);
    values[i] = tile;
  }
  for (const Code& code : codes_) {
    T* result = outputOf_[code.result] >= 0 ? static_cast<T*>(out[outputOf_[code.result]]) + begin
                                            : tiles + slotOf_[code.result] * kTile;
    code.run(values[code.operand[0]], values[code.operand[1]], values[code.operand[2]], result, n,
             code.number);
    values[code.result] = result;
  }
  for (size_t o = 0; o < outputs_.size(); ++o) {
    const T* from = values[outputs_[o].value];
    if (outputs_[o].type == Type::Bool) {
      uint8_t* to = static_cast<uint8_t*>(out[o]) + begin;
      for (int64_t i = 0; i < n; ++i) to[i] = from[i] != 0;
    } else if (outputs_[o].type == Type::Int) {
      int32_t* to = static_cast<int32_t*>(out[o]) + begin;
      for (int64_t i = 0; i < n; ++i) to[i] = static_cast<int32_t>(from[i]);
    }
  }
}

template <class T>
void FusedKernel<T>::run(const void* const* in, void* const* out, void* scratch) const {
  if (total_ == 0) return;
  T* tiles = static_cast<T*>(scratch);
  const T** values = reinterpret_cast<const T**>(tiles + slots_ * kTile);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].way != Way::Splat) continue;
    T* tile = tiles + inputs_[i].slot * kTile;
    fill(inputs_[i], in[i], 0, 1, tile);
    std::fill_n(tile, kTile, tile[0]);
    values[i] = tile;
  }
  // Long rows are cut on their own, so that operands repeated along outer axes are used in place.
  const int64_t row = dims_.back();
  if (row >= kTile / 4) {
    for (int64_t start = 0; start < total_; start += row)
      for (int64_t at = 0; at < row; at += kTile)
        runTile(start + at, std::min(kTile, row - at), in, out, values, tiles);
  } else {
    for (int64_t at = 0; at < total_; at += kTile)
      runTile(at, std::min(kTile, total_ - at), in, out, values, tiles);
  }
}

template class FusedKernel<float>;
template class FusedKernel<double>;

}  // namespace eigenscope
