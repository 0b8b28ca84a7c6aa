#pragma once

#include <cstddef>

namespace eigenscope {

enum class Precision { F32, F64 };

inline std::size_t bytesOf(Precision precision) { return precision == Precision::F32 ? 4 : 8; }

template <class T>
constexpr Precision precisionOf() {
  return sizeof(T) == 4 ? Precision::F32 : Precision::F64;
}

}  // namespace eigenscope
