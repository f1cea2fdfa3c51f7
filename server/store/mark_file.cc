#include "server/store/mark_file.h"

#include <fcntl.h>
#include <xxhash.h>

#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/check.h"
#include "core/base/status_macros.h"
#include "server/store/big_endian.h"

namespace lockstep::store {
namespace {

constexpr absl::string_view kMagic("LSMARK\0\1", 8);
constexpr size_t kSlotBytes = 40;
constexpr size_t kSlots = 2;
constexpr uint64_t kSlotDistanceBytes = 4096;

std::string EncodeSlot(absl::string_view store_id, uint64_t revision) {
  std::string slot(kMagic);
  slot.append(store_id.data(), store_id.size());
  AppendBigEndian64(&slot, revision);
  AppendBigEndian64(&slot, XXH3_64bits(slot.data(), slot.size()));
  return slot;
}

struct Slot {
  std::string store_id;
  uint64_t revision;
};

// nullopt: torn or damaged.
std::optional<Slot> DecodeSlot(absl::string_view bytes) {
  if (bytes.size() != kSlotBytes || bytes.substr(0, kMagic.size()) != kMagic) return std::nullopt;
  const size_t hashed = kSlotBytes - kBigEndian64Bytes;
  if (ReadBigEndian64(bytes.substr(hashed)) != XXH3_64bits(bytes.data(), hashed)) return std::nullopt;
  return Slot{std::string(bytes.substr(kMagic.size(), kStoreIdBytes)),
              ReadBigEndian64(bytes.substr(kMagic.size() + kStoreIdBytes))};
}

}  // namespace

absl::StatusOr<MarkFile> MarkFile::Open(const std::string& path) {
  LOCKSTEP_ASSIGN_OR_RETURN(PosixFile file, PosixFile::Open(path, O_RDWR));
  std::optional<Slot> newest;
  size_t newest_slot = 0;
  for (size_t i = 0; i < kSlots; ++i) {
    LOCKSTEP_ASSIGN_OR_RETURN(const std::string bytes, file.ReadAt(i * kSlotDistanceBytes, kSlotBytes));
    std::optional<Slot> slot = DecodeSlot(bytes);
    if (!slot || (newest && newest->revision >= slot->revision)) continue;
    newest = std::move(slot);
    newest_slot = i;
  }
  if (!newest) return absl::DataLossError(absl::StrCat("neither of the two records in ", path, " is intact"));
  return MarkFile(std::move(file), std::move(newest->store_id), newest->revision, newest_slot);
}

absl::StatusOr<MarkFile> MarkFile::Create(const std::string& path, absl::string_view store_id,
                                          uint64_t revision) {
  LOCKSTEP_CHECK(store_id.size() == kStoreIdBytes, "a store id has a fixed size");
  const std::string slot = EncodeSlot(store_id, revision);
  std::string contents = slot;
  contents.resize(kSlotDistanceBytes, '\0');
  contents += slot;
  contents.resize(kSlots * kSlotDistanceBytes, '\0');
  LOCKSTEP_RETURN_IF_ERROR(WriteFileAtomically(path, contents));
  LOCKSTEP_ASSIGN_OR_RETURN(MarkFile mark, Open(path));
  mark.durable_ = true;
  return mark;
}

absl::Status MarkFile::Write(uint64_t revision) {
  if (!durable_) LOCKSTEP_RETURN_IF_ERROR(Sync());
  const size_t slot = 1 - newest_slot_;
  LOCKSTEP_RETURN_IF_ERROR(file_.WriteAt(slot * kSlotDistanceBytes, EncodeSlot(store_id_, revision)));
  durable_ = false;
  newest_slot_ = slot;
  revision_ = revision;
  return absl::OkStatus();
}

absl::Status MarkFile::Sync() {
  LOCKSTEP_RETURN_IF_ERROR(file_.SyncData());
  durable_ = true;
  return absl::OkStatus();
}

}  // namespace lockstep::store
