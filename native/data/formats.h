#pragma once

#include <cstring>

#include "data/readers.h"

// One reader a file format, behind readArrays. Each adds what it finds to `contents`; `name` is the
// array's where the format gives none.
namespace eigenscope {

void readNpy(const std::string& name, const Bytes& bytes, const ReadOptions&, Contents& contents);
void readNpz(const std::string& name, const Bytes& bytes, const ReadOptions&, Contents& contents);
void readIdx(const std::string& name, const Bytes& bytes, const ReadOptions&, Contents& contents);
void readSafetensors(const std::string& name, const Bytes& bytes, const ReadOptions&,
                     Contents& contents);
void readCsv(const std::string& name, const Bytes& bytes, const ReadOptions& options,
             Contents& contents);

// An integer of the file at `offset`, which the caller has checked.
template <class T>
T littleEndian(const Bytes& bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

inline std::string_view textAt(const Bytes& bytes, std::size_t offset, std::size_t count) {
  return {reinterpret_cast<const char*>(bytes.data()) + offset, count};
}

// The size in bytes of an array; fails naming `bytes` if it has more than 62 bits.
std::size_t sizeInBytes(const Bytes& bytes, const std::string& name, ElementType type,
                        const Shape& shape);

}  // namespace eigenscope
