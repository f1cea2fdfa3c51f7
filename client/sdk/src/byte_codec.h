// Little-endian bytes of the SDK's files. Text and counts are preceded by their 32-bit length.
#pragma once

#include <bit>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace lockstep::internal {

class ByteWriter {
 public:
  void U8(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void U32(uint32_t value) { Put(value, sizeof(value)); }
  void U64(uint64_t value) { Put(value, sizeof(value)); }
  void Real(double value) { U64(std::bit_cast<uint64_t>(value)); }
  void Text(absl::string_view text) {
    U32(static_cast<uint32_t>(text.size()));
    bytes_.append(text.data(), text.size());
  }

  const std::string& bytes() const { return bytes_; }

 private:
  void Put(uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) U8(static_cast<uint8_t>(value >> (8 * i)));
  }

  std::string bytes_;
};

// After an attempt to read beyond the end everything reads as zero or empty, and `failed` says so.
class ByteReader {
 public:
  // `bytes` must outlive the reader.
  explicit ByteReader(absl::string_view bytes) : bytes_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Get(1)); }
  uint32_t U32() { return static_cast<uint32_t>(Get(4)); }
  uint64_t U64() { return Get(8); }
  double Real() { return std::bit_cast<double>(U64()); }
  std::string Text() {
    const uint32_t size = U32();
    if (!Has(size)) return "";
    const std::string text(bytes_.substr(0, size));
    bytes_.remove_prefix(size);
    return text;
  }

  void Fail() { failed_ = true; }
  bool failed() const { return failed_; }
  bool at_end() const { return bytes_.empty(); }

 private:
  bool Has(size_t bytes) {
    if (bytes > bytes_.size()) failed_ = true;
    return !failed_;
  }
  uint64_t Get(size_t bytes) {
    if (!Has(bytes)) return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value |= uint64_t{static_cast<uint8_t>(bytes_[i])} << (8 * i);
    bytes_.remove_prefix(bytes);
    return value;
  }

  absl::string_view bytes_;
  bool failed_ = false;
};

}  // namespace lockstep::internal
