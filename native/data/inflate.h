#pragma once

#include "data/storage.h"

namespace eigenscope {

// Decompresses a raw deflate stream of known size. Throws Error (DataMismatch).
Bytes inflateRaw(const Bytes& compressed, std::size_t size);

// Decompresses a gzip file of one or more members, with its checksums. Throws Error (DataMismatch).
Bytes gunzip(const Bytes& compressed);

// CRC-32 as zip has it.
uint32_t checksumOf(const Bytes& bytes);

}  // namespace eigenscope
