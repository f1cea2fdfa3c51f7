// What the tests of the RocksDB store share: a data directory with known contents, and copies of it to
// damage.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/store/rocksdb_store.h"
#include "tests/store/store_conformance.h"
#include "tests/store/temp_directory.h"

namespace lockstep::store {

inline std::unique_ptr<Store> MustOpen(const std::string& path, size_t flush_bytes = 32 << 20) {
  absl::StatusOr<std::unique_ptr<Store>> store = OpenRocksDbStore({.path = path, .flush_bytes = flush_bytes});
  EXPECT_TRUE(store.ok()) << store.status();
  return store.ok() ? *std::move(store) : nullptr;
}

// Commit number i, counted from 1, puts KnownValue(i) under AuditKey(i), and i itself as meta/last.
inline std::string KnownValue(uint64_t i) { return absl::StrCat(i, std::string(i * 37 % 300, 'v')); }
inline WriteBatch KnownBatch(uint64_t i) {
  WriteBatch batch = PutBatch(Table::kAudit, AuditKey(i), KnownValue(i));
  batch.Put(Table::kMeta, "last", AuditKey(i));
  return batch;
}
inline void CommitKnown(Store* store, uint64_t from, uint64_t to) {
  for (uint64_t i = from; i <= to; ++i) MustCommit(store, KnownBatch(i));
}

// How many known commits the store holds; nullopt when it is not exactly 1 to n, each whole.
inline std::optional<uint64_t> KnownCommits(const Store& store) {
  const Rows rows = ScanAll(store, Table::kAudit);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i] != std::make_pair(AuditKey(i + 1), KnownValue(i + 1))) return std::nullopt;
  }
  const std::optional<std::string> last = MustGet(store, Table::kMeta, "last");
  if (rows.empty() ? last.has_value() : last != AuditKey(rows.size())) return std::nullopt;
  if (store.revision() != rows.size()) return std::nullopt;
  return rows.size();
}

// This process's descriptor that is open for writing on `path`.
inline int DescriptorOf(const std::filesystem::path& path) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path(), error) != path) continue;
    const int fd = std::stoi(entry.path().filename().string());
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY) return fd;
  }
  ADD_FAILURE() << path << " is not open";
  return -1;
}

inline std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}
inline void WriteFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << bytes;
  EXPECT_TRUE(file.flush().good()) << path;
}

// The database's files with this extension, the empty ones left out, in the order of their numbers.
inline std::vector<std::filesystem::path> DatabaseFiles(const std::string& data_directory,
                                                        const std::string& extension) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(data_directory + "/db")) {
    if (entry.path().extension() == extension && entry.file_size() > 0) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

inline void CopyDirectory(const std::string& from, const std::string& to) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

}  // namespace lockstep::store
