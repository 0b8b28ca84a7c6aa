// NumPy's .npy, versions 1 to 3 (numpy.lib.format): magic, version, length of the header, a header
// that is a Python dict, the raw array.
#include "data/formats.h"
#include "data/literal.h"

namespace eigenscope {

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHeader = std::size_t{1} << 20;

struct Code {
  const char* code;
  ElementType type;
};

constexpr Code kCodes[] = {
    {"b1", ElementType::Bool}, {"u1", ElementType::U8},  {"i1", ElementType::I8},
    {"i2", ElementType::I16},  {"u2", ElementType::U16}, {"i4", ElementType::I32},
    {"i8", ElementType::I64},  {"f2", ElementType::F16}, {"f4", ElementType::F32},
    {"f8", ElementType::F64},
};

struct Header {
  Literal dict;
  std::size_t end = 0;  // where the data begins
};

Header readHeader(const Bytes& bytes) {
  if (bytes.size() < 10 || textAt(bytes, 0, kMagic.size()) != kMagic)
    bytes.fail("expected a .npy file, which begins with \\x93NUMPY; found " +
               std::to_string(bytes.size()) + " bytes of something else");
  const int version = static_cast<int>(bytes.data()[6]);
  if (version < 1 || version > 3)
    bytes.fail("expected .npy version 1, 2 or 3, got " + std::to_string(version));
  const std::size_t start = version == 1 ? 10 : 12;
  if (bytes.size() < start) bytes.fail("truncated within the .npy header");
  const std::size_t length =
      version == 1 ? littleEndian<uint16_t>(bytes, 8) : littleEndian<uint32_t>(bytes, 8);
  if (length > kMaxHeader)
    bytes.fail("expected a .npy header of at most 1 MiB, got " + std::to_string(length) + " bytes");
  if (bytes.size() - start < length)
    bytes.fail("truncated: expected a .npy header of " + std::to_string(length) + " bytes, got " +
               std::to_string(bytes.size() - start));
  return {parseLiteral(textAt(bytes, start, length), bytes), start + length};
}

// Row-major bytes of an array stored column by column.
Bytes transposed(const Bytes& bytes, std::size_t element, const Shape& shape) {
  auto block = std::make_shared<HeapBlock>(bytes.size(), bytes.label);
  const std::size_t rank = shape.size();
  std::vector<std::size_t> stride(rank), index(rank, 0);
  std::size_t count = 1;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    stride[axis] = count * element;
    count *= static_cast<std::size_t>(shape[axis]);
  }
  std::byte* out = block->data();
  std::size_t from = 0;
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(out + i * element, bytes.data() + from, element);
    for (std::size_t axis = rank; axis-- > 0;) {
      from += stride[axis];
      if (++index[axis] < static_cast<std::size_t>(shape[axis])) break;
      from -= stride[axis] * index[axis];
      index[axis] = 0;
    }
  }
  std::span<const std::byte> span(block->data(), block->size());
  return {bytes.label, std::move(block), span};
}

bool sameInBothOrders(const Shape& shape) {
  int long_ = 0;
  for (int64_t length : shape) {
    if (length == 0) return true;
    long_ += length > 1;
  }
  return long_ <= 1;
}

}  // namespace

std::size_t sizeInBytes(const Bytes& bytes, const std::string& name, ElementType type,
                        const Shape& shape) {
  const auto elements = elementsOf(shape);
  std::size_t size = 0;
  if (!elements ||
      __builtin_mul_overflow(static_cast<std::size_t>(*elements), bytesOf(type), &size) ||
      size >> 62 != 0)
    bytes.fail(name + ": the shape " + textOf(shape) + " in the header is impossible");
  return size;
}

void readNpy(const std::string& name, const Bytes& bytes, const ReadOptions&, Contents& contents) {
  const Header header = readHeader(bytes);
  const Literal* descr = header.dict.find("descr");
  const Literal* order = header.dict.find("fortran_order");
  const Literal* lengths = header.dict.find("shape");
  Shape shape;
  if (descr == nullptr || order == nullptr || order->kind != Literal::Kind::Bool ||
      lengths == nullptr || !lengths->integers(shape))
    bytes.fail("malformed .npy header: expected 'descr', 'fortran_order' and 'shape'");

  std::string code = "a structured type";
  if (descr->kind == Literal::Kind::Text) code = descr->text;
  const bool bigEndian = code[0] == '>';
  const std::string_view letter =
      std::string_view(code).substr(code.find_first_not_of("<>|=") == 1 ? 1 : 0);
  const Code* found = nullptr;
  for (const Code& row : kCodes)
    if (letter == row.code) found = &row;
  if (found == nullptr) {
    contents.skipped.push_back(
        {name, "its type " + code +
                   " is none that is read (bool, integers up to int64, float16 "
                   "to float64); convert it in NumPy, for example with .astype(\"float32\")"});
    return;
  }

  const std::size_t wanted = sizeInBytes(bytes, name, found->type, shape);
  const std::size_t got = bytes.size() - header.end;
  if (wanted != got)
    bytes.fail(std::string(got < wanted ? "truncated: " : "") + "expected " +
               std::to_string(wanted) + " bytes of data for " + nameOf(found->type) + " " +
               textOf(shape) + ", got " + std::to_string(got));
  Bytes data = bytes.sub(header.end, wanted);
  if (order->flag && !sameInBothOrders(shape)) {
    std::size_t element = bytesOf(found->type);
    data = transposed(data, element, shape);
  }
  contents.arrays.emplace_back(name, found->type, std::move(shape), std::move(data), bigEndian);
}

}  // namespace eigenscope
