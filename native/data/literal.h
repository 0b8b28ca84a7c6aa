#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/storage.h"

namespace eigenscope {

// A value of the notation that JSON and Python's literals share, as far as headers of data files
// use it: no fractions.
struct Literal {
  enum class Kind { Null, Bool, Integer, Text, List, Dict };
  Kind kind = Kind::Null;
  bool flag = false;
  int64_t integer = 0;
  std::string text;
  std::vector<Literal> items;
  std::vector<std::pair<std::string, Literal>> fields;

  const Literal* find(std::string_view key) const;

  // The items as integers, if this is a list of nothing else.
  bool integers(std::vector<int64_t>& out) const;
};

// Reads all of `text`, which `where` holds; throws Error (DataMismatch) naming it and the position.
Literal parseLiteral(std::string_view text, const Bytes& where);

}  // namespace eigenscope
