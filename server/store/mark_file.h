// The high-water mark: the revision up to which commits were acknowledged, kept outside the database so that
// a database which lost some of them can be told from one that never had them.
//
// The file has two slots of 40 bytes, at offsets 0 and 4096 (different sectors and pages):
//
//   magic and layout version (8) | store id (16) | revision (8, big-endian) | XXH3-64 of the former (8)
//
// Each write overwrites the slot that does not hold the newest mark, in place, once the newest is durable: a
// crash in the middle damages only that slot, and the other still holds the mark before. Overwriting in place
// needs no space and no change of metadata, so a full disk does not stop it and the sync is cheap.
//
// Writing and syncing are apart because commits are answered in between (rocksdb_store.h): from Write on, a
// kill of the process doesn't lose the mark; from Sync on, a crash of the machine doesn't.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/posix_file.h"

namespace lockstep::store {

// Names one database for life, so that the mark of another one isn't taken for its own.
inline constexpr size_t kStoreIdBytes = 16;

// Thread-compatible.
class MarkFile {
 public:
  // NOT_FOUND: there is no file. DATA_LOSS: neither slot is intact. Else as posix_file.h.
  static absl::StatusOr<MarkFile> Open(const std::string& path);
  // Creates or replaces the file, durably. `store_id` has kStoreIdBytes bytes.
  static absl::StatusOr<MarkFile> Create(const std::string& path, absl::string_view store_id,
                                         uint64_t revision);

  // Syncs the former mark first unless that is done already, as it is after a Sync that returned OK. After an
  // error the file holds the former mark or this one.
  absl::Status Write(uint64_t revision);
  // Makes the last write durable.
  absl::Status Sync();

  const std::string& store_id() const { return store_id_; }
  uint64_t revision() const { return revision_; }

 private:
  MarkFile(PosixFile file, std::string store_id, uint64_t revision, size_t newest_slot)
      : file_(std::move(file)),
        store_id_(std::move(store_id)),
        revision_(revision),
        newest_slot_(newest_slot) {}

  PosixFile file_;
  std::string store_id_;
  uint64_t revision_;
  size_t newest_slot_;
  // Not known of a file just opened: whoever wrote it may have been killed before syncing it.
  bool durable_ = false;
};

}  // namespace lockstep::store
