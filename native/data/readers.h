#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/array.h"

namespace eigenscope {

struct ReadOptions {
  // CSV only. The columns that are the target, by name, or by position counted from 0 (from the end
  // when negative). Empty: the column named like the target, if there is one.
  std::vector<std::string> targets;
  // CSV only. What the array of those columns is called.
  std::string targetName = "y";
  // CSV only. Whether the first line names the columns; unset: it does if it is not all numbers.
  std::optional<bool> header;
  // CSV only. Keep the table in one array, (N, columns), or (N,) for one column, without a target.
  bool whole = false;
};

// An entry of a file that is no array of numbers, such as text or pickled objects.
struct Skipped {
  std::string name;
  std::string reason;
};

struct Contents {
  std::vector<Array> arrays;
  std::vector<Skipped> skipped;
  // CSV with a header only: what the columns of array "x" are called.
  std::vector<std::string> columns;
};

// Reads .npy, .npz, safetensors, IDX or CSV, each also gzipped; the contents decide which, the
// extension only where they do not. Arrays of one-array files are named after the file. What is not
// compressed is mapped, not read, except .npz, which is read once for its checksums, big arrays in
// Fortran order, which are transposed once, and CSV. Throws Error (DataMismatch) naming the file,
// what was expected and what was found.
Contents readArrays(const std::string& path, const ReadOptions& options = {});

// The same for bytes at hand; `path` gives name and extension.
Contents readArrays(const std::string& path, Bytes bytes, const ReadOptions& options = {});

// The file's name without folder and extensions: the name of the array in a one-array file.
std::string stemOf(const std::string& path);

}  // namespace eigenscope
