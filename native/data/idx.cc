// IDX, the format of MNIST: two zero bytes, a type, the rank, the lengths and the data, all
// big-endian.
#include "data/formats.h"

namespace eigenscope {

namespace {

struct Code {
  int code;
  ElementType type;
};

constexpr Code kCodes[] = {
    {0x08, ElementType::U8},  {0x09, ElementType::I8},  {0x0b, ElementType::I16},
    {0x0c, ElementType::I32}, {0x0d, ElementType::F32}, {0x0e, ElementType::F64},
};

}  // namespace

void readIdx(const std::string& name, const Bytes& bytes, const ReadOptions&, Contents& contents) {
  const auto byteAt = [&](std::size_t i) { return static_cast<int>(bytes.data()[i]); };
  if (bytes.size() < 4 || byteAt(0) != 0 || byteAt(1) != 0)
    bytes.fail("expected an IDX file, which begins with two zero bytes");
  const Code* found = nullptr;
  for (const Code& row : kCodes)
    if (row.code == byteAt(2)) found = &row;
  if (found == nullptr)
    bytes.fail("expected an IDX type of 8, 9 or 11 to 14, got " + std::to_string(byteAt(2)));
  const std::size_t rank = static_cast<std::size_t>(byteAt(3)), header = 4 + 4 * rank;
  if (rank == 0) bytes.fail("expected an IDX array of at least one axis, got none");
  if (bytes.size() < header)
    bytes.fail("truncated: expected an IDX header of " + std::to_string(header) + " bytes, got " +
               std::to_string(bytes.size()));
  Shape shape;
  for (std::size_t axis = 0; axis < rank; ++axis)
    shape.push_back(__builtin_bswap32(littleEndian<uint32_t>(bytes, 4 + 4 * axis)));

  const std::size_t wanted = sizeInBytes(bytes, name, found->type, shape);
  const std::size_t got = bytes.size() - header;
  if (wanted != got)
    bytes.fail(std::string(got < wanted ? "truncated: " : "") + "expected " +
               std::to_string(wanted) + " bytes of data for " + nameOf(found->type) + " " +
               textOf(shape) + ", got " + std::to_string(got));
  contents.arrays.emplace_back(name, found->type, std::move(shape), bytes.sub(header, wanted),
                               true);
}

}  // namespace eigenscope
