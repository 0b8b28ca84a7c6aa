#pragma once

#include <doctest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "data/data_set.h"

namespace eigenscope::fixtures {

inline std::string pathOf(const std::string& name) {
  return (std::filesystem::path(__FILE__).parent_path().parent_path() / "fixtures" / "data" / name)
      .string();
}

inline std::string contentsOf(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What the readers make of these bytes, as if they came from a file of that name.
inline Contents readText(const std::string& name, const std::string& text,
                         const ReadOptions& options = {}) {
  return readArrays(name, copyBytes(name, text.data(), text.size()), options);
}

inline const Array& arrayOf(const Contents& contents, const std::string& name) {
  for (const Array& array : contents.arrays)
    if (array.name() == name) return array;
  FAIL("no array ", name);
  return contents.arrays[0];
}

template <class T = double>
std::vector<T> valuesOf(const Array& array) {
  std::vector<T> out(static_cast<std::size_t>(array.size()));
  convertRows(array, 0, array.rows(), out.data());
  return out;
}

template <class T>
Array make(const std::string& name, ElementType type, const Shape& shape,
           const std::vector<T>& values) {
  return Array(name, type, shape, copyBytes("memory", values.data(), values.size() * sizeof(T)));
}

// Calls f and returns the message of the Error that it must throw.
template <class F>
std::string errorOf(ErrorKind kind, F f) {
  try {
    f();
  } catch (const Error& error) {
    CHECK(error.kind == kind);
    return error.what();
  }
  FAIL("no error was thrown");
  return "";
}

inline void checkHas(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    INFO("message: ", message, "\nwanted: ", part);
    CHECK(message.find(part) != std::string::npos);
  }
}

}  // namespace eigenscope::fixtures
