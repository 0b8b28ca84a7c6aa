#pragma once

#include <cstdint>
#include <vector>

#include "compile/program.h"

namespace eigenscope {

// A fused loop made ready to run: axes merged, operands resolved to tile pointers. The loop goes
// over tiles that stay in the first-level cache and applies each operation to a whole tile.
template <class T>
class FusedKernel {
 public:
  explicit FusedKernel(const FusedLoop& loop);

  // in and out: base addresses in the order of the loop. Scratch: scratchBytes(), 64-byte aligned.
  void run(const void* const* in, void* const* out, void* scratch) const;

  int64_t scratchBytes() const;

  static constexpr int64_t kTile = 512;

 private:
  enum class Way : uint8_t { Direct, Splat, Convert };

  struct Input {
    Type type;
    std::vector<int64_t> strides;  // along dims_
    int64_t inner;                 // stride of the last axis: 0 or 1, or any
    Way way;
    int slot;  // tile buffer; -1 for Direct
    // A Direct operand that lies as the iteration goes, and one whose last axis is all of it.
    bool dense = false, repeats = false;
  };
  struct Code {
    void (*run)(const T* a, const T* b, const T* c, T* r, int64_t n, double number);
    int result, operand[3];
    double number;
  };
  struct Output {
    int value;
    Type type;
  };

  void fill(const Input& input, const void* base, int64_t begin, int64_t n, T* tile) const;
  void runTile(int64_t begin, int64_t n, const void* const* in, void* const* out, const T** values,
               T* tiles) const;

  std::vector<int64_t> dims_;
  int64_t total_ = 1;
  std::vector<Input> inputs_;
  std::vector<Code> codes_;
  std::vector<Output> outputs_;
  std::vector<int> slotOf_;    // of each value; -1 where it is an output's memory or Direct
  std::vector<int> outputOf_;  // of each value: the Real output it is, -1 none
  int slots_ = 0;
};

}  // namespace eigenscope
