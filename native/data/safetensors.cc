// safetensors: the length of the header (8 bytes, little-endian), a JSON object of
// {name: {dtype, shape, data_offsets}}, then the data, which the offsets cover without holes.
#include <algorithm>
#include <tuple>

#include "data/formats.h"
#include "data/literal.h"

namespace eigenscope {

namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // as the format's own reader has it

struct Code {
  const char* code;
  ElementType type;
};

constexpr Code kCodes[] = {
    {"BOOL", ElementType::Bool}, {"U8", ElementType::U8},   {"I8", ElementType::I8},
    {"I16", ElementType::I16},   {"U16", ElementType::U16}, {"I32", ElementType::I32},
    {"I64", ElementType::I64},   {"F16", ElementType::F16}, {"BF16", ElementType::BF16},
    {"F32", ElementType::F32},   {"F64", ElementType::F64},
};

struct Range {
  std::size_t begin, end;
  const std::string* name;
};

// Data that two tensors share, or that none has, is a sign of a corrupted or crafted header.
void checkCover(const Bytes& bytes, std::vector<Range> ranges, std::size_t size) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::size_t at = 0;
  for (const Range& range : ranges) {
    if (range.begin != at)
      bytes.fail("malformed safetensors header: expected the data of " + *range.name +
                 " at offset " + std::to_string(at) + ", got " + std::to_string(range.begin));
    at = range.end;
  }
  if (at != size)
    bytes.fail(std::string(at > size ? "truncated: " : "") + "expected " + std::to_string(at) +
               " bytes of safetensors data, got " + std::to_string(size));
}

}  // namespace

void readSafetensors(const std::string&, const Bytes& bytes, const ReadOptions&,
                     Contents& contents) {
  if (bytes.size() < 10) bytes.fail("truncated: too short for a safetensors header");
  const uint64_t length = littleEndian<uint64_t>(bytes, 0);
  if (length > kMaxHeader)
    bytes.fail("expected a safetensors header of at most 100 MB, got " + std::to_string(length) +
               " bytes; this is no safetensors file, or a damaged one");
  if (length > bytes.size() - 8)
    bytes.fail("truncated: expected a safetensors header of " + std::to_string(length) +
               " bytes, got " + std::to_string(bytes.size() - 8));
  const Literal header = parseLiteral(textAt(bytes, 8, length), bytes);
  if (header.kind != Literal::Kind::Dict)
    bytes.fail("malformed safetensors header: expected an object");
  const std::size_t start = 8 + length, available = bytes.size() - start;

  std::vector<Range> ranges;
  for (const auto& [name, entry] : header.fields) {
    if (name == "__metadata__") continue;
    const Literal* dtype = entry.find("dtype");
    const Literal* lengths = entry.find("shape");
    const Literal* offsets = entry.find("data_offsets");
    Shape shape;
    std::vector<int64_t> run;
    if (dtype == nullptr || dtype->kind != Literal::Kind::Text || lengths == nullptr ||
        !lengths->integers(shape) || offsets == nullptr || !offsets->integers(run) ||
        run.size() != 2 || run[0] < 0 || run[1] < run[0])
      bytes.fail("malformed safetensors header: expected dtype, shape and data_offsets for " +
                 name);
    const std::size_t begin = static_cast<std::size_t>(run[0]),
                      end = static_cast<std::size_t>(run[1]);
    ranges.push_back({begin, end, &name});
    const Code* found = nullptr;
    for (const Code& row : kCodes)
      if (dtype->text == row.code) found = &row;
    if (found == nullptr) {
      contents.skipped.push_back({name, "its type " + dtype->text + " is none that is read (" +
                                            "BOOL, U8, I8, I16, U16, I32, I64, F16, BF16, F32, "
                                            "F64)"});
      continue;
    }
    if (end > available)
      bytes.fail("truncated: expected " + std::to_string(end) + " bytes of data for " + name +
                 ", got " + std::to_string(available));
    const std::size_t wanted = sizeInBytes(bytes, name, found->type, shape);
    if (wanted != end - begin)
      bytes.fail("expected " + std::to_string(wanted) + " bytes for " + name + " " +
                 nameOf(found->type) + " " + textOf(shape) + ", got " +
                 std::to_string(end - begin));
    contents.arrays.emplace_back(name, found->type, std::move(shape),
                                 bytes.sub(start + begin, wanted));
  }
  checkCover(bytes, std::move(ranges), available);
}

}  // namespace eigenscope
