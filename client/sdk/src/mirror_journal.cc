#include "lockstep/internal/mirror_journal.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "client/sdk/src/byte_codec.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/domain/bucketing.h"

namespace lockstep::internal {
namespace {

enum class Op : uint8_t { kHeader = 'H', kNote = 'N', kCounted = 'C', kStrike = 'S' };

// Length and checksum.
constexpr size_t kFrameBytes = 12;
// Longer ones aren't written, so what looks like one is damage.
constexpr size_t kMaxPayloadBytes = 1 << 16;

// Covers the length, too: otherwise zeros at the end of a file would be records.
uint64_t Checksum(absl::string_view payload) { return domain::KeyHash(payload.size() + 1, payload); }

std::string Framed(const ByteWriter& payload) {
  ByteWriter frame;
  frame.U32(static_cast<uint32_t>(payload.bytes().size()));
  frame.U64(Checksum(payload.bytes()));
  return absl::StrCat(frame.bytes(), payload.bytes());
}

std::string HeaderRecord(absl::string_view migration) {
  ByteWriter payload;
  payload.U8(static_cast<uint8_t>(Op::kHeader));
  payload.U32(MirrorJournal::kFormat);
  payload.Text(migration);
  return Framed(payload);
}

std::string NoteRecord(const JournalEntry& entry) {
  ByteWriter payload;
  payload.U8(static_cast<uint8_t>(Op::kNote));
  payload.U64(entry.id);
  payload.U64(entry.generation);
  payload.U64(entry.epoch);
  payload.U64(entry.contract_revision);
  payload.U64(entry.store_epoch);
  payload.U8(static_cast<uint8_t>(entry.authoritative));
  payload.U8(entry.counted ? 1 : 0);
  payload.Text(entry.kind);
  payload.Text(entry.routing_key);
  payload.Text(entry.key);
  payload.Text(entry.idempotency_key);
  return Framed(payload);
}

std::string IdRecord(Op op, uint64_t id) {
  ByteWriter payload;
  payload.U8(static_cast<uint8_t>(op));
  payload.U64(id);
  return Framed(payload);
}

// The payload of the record that `bytes` begins with, if it is whole.
std::optional<absl::string_view> PayloadAt(absl::string_view bytes) {
  if (bytes.size() < kFrameBytes) return std::nullopt;
  ByteReader frame(bytes.substr(0, kFrameBytes));
  const uint32_t length = frame.U32();
  if (length == 0 || length > kMaxPayloadBytes || length > bytes.size() - kFrameBytes) return std::nullopt;
  const absl::string_view payload = bytes.substr(kFrameBytes, length);
  if (frame.U64() != Checksum(payload)) return std::nullopt;
  return payload;
}

void Replay(absl::string_view payload, JournalContents& contents) {
  ByteReader reader(payload);
  switch (static_cast<Op>(reader.U8())) {
    case Op::kHeader:
      contents.format = reader.U32();
      contents.migration = reader.Text();
      return;
    case Op::kNote: {
      JournalEntry entry;
      entry.id = reader.U64();
      entry.generation = reader.U64();
      entry.epoch = reader.U64();
      entry.contract_revision = reader.U64();
      entry.store_epoch = reader.U64();
      entry.authoritative = reader.U8() == 0 ? domain::Side::kOld : domain::Side::kNew;
      entry.counted = reader.U8() != 0;
      entry.kind = reader.Text();
      entry.routing_key = reader.Text();
      entry.key = reader.Text();
      entry.idempotency_key = reader.Text();
      contents.last_id = std::max(contents.last_id, entry.id);
      contents.open[entry.id] = std::move(entry);
      return;
    }
    case Op::kCounted:
      if (const auto found = contents.open.find(reader.U64()); found != contents.open.end()) {
        found->second.counted = true;
      }
      return;
    case Op::kStrike:
      contents.open.erase(reader.U64());
      return;
  }
}

}  // namespace

JournalContents ReadJournal(absl::string_view bytes) {
  JournalContents contents;
  size_t unread = 0;  // bytes since the last record that could be read
  for (size_t at = 0; at < bytes.size();) {
    const std::optional<absl::string_view> payload = PayloadAt(bytes.substr(at));
    if (!payload.has_value()) {
      ++unread;
      ++at;
      continue;
    }
    contents.damaged_bytes += std::exchange(unread, 0);
    Replay(*payload, contents);
    at += kFrameBytes + payload->size();
  }
  contents.torn_bytes = unread;
  return contents;
}

std::string MirrorJournal::FileName(absl::string_view migration) {
  std::string name(migration);
  name = absl::StrReplaceAll(name, {{"namespaces/", ""}, {"/migrations/", "."}});
  return absl::StrCat("mirrors.", name);
}

absl::StatusOr<std::unique_ptr<MirrorJournal>> MirrorJournal::Open(std::shared_ptr<StateStorage> storage,
                                                                   absl::string_view migration, bool sync) {
  const std::string file = FileName(migration);
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> bytes, storage->Read(file));
  std::unique_ptr<MirrorJournal> journal(
      new MirrorJournal(std::move(storage), file, sync, std::string(migration)));
  MutexLock io_lock(&journal->io_mutex_);
  if (!bytes.has_value()) {
    MutexLock lock(&journal->mutex_);
    journal->AddPendingLocked(HeaderRecord(migration));
    return journal;
  }
  JournalContents contents = ReadJournal(*bytes);
  if (!contents.migration.empty() && contents.migration != migration) {
    return absl::FailedPreconditionError(
        absl::StrCat("file ", file, " in the state directory is the mirror journal of ", contents.migration,
                     ", not of ", migration, "; give each instance a state directory of its own"));
  }
  if (contents.format > kFormat) {
    return absl::FailedPreconditionError(absl::StrCat("file ", file, " in the state directory has format ",
                                                      contents.format, ", and this version of the SDK knows ",
                                                      kFormat,
                                                      "; deploy the version that wrote it, or a later one"));
  }
  if (contents.damaged_bytes > 0) {
    Log(LogLevel::kError,
        "the mirror journal is damaged; mirrors noted there may be missing, so verify both sides",
        {{"file", file},
         {"damaged_bytes", absl::StrCat(contents.damaged_bytes)},
         {"open_entries", absl::StrCat(contents.open.size())}});
  }
  {
    MutexLock lock(&journal->mutex_);
    journal->next_id_ = contents.last_id + 1;
    for (auto& [id, entry] : contents.open) {
      const size_t entry_bytes = NoteRecord(entry).size();
      journal->open_bytes_ += entry_bytes;
      journal->recovered_.push_back(entry);
      journal->open_.emplace(id, OpenEntry{std::move(entry), entry_bytes, absl::OkStatus()});
    }
    journal->unclaimed_ = journal->recovered_;
  }
  journal->file_bytes_ = bytes->size();
  // What follows bytes that can't be read is found all the same, but needn't be searched for each time.
  if (contents.migration.empty() || contents.damaged_bytes + contents.torn_bytes > 0) {
    LOCKSTEP_RETURN_IF_ERROR(journal->Compact());
  }
  return journal;
}

MirrorJournal::~MirrorJournal() {
  uint64_t last = 0;
  {
    MutexLock lock(&mutex_);
    if (pending_strikes_ == 0) return;
    last = added_;
  }
  Flush(last);
}

std::vector<JournalEntry> MirrorJournal::Unclaimed(absl::string_view kind) const {
  std::vector<JournalEntry> entries;
  MutexLock lock(&mutex_);
  for (const JournalEntry& entry : unclaimed_) {
    if (entry.kind == kind) entries.push_back(entry);
  }
  return entries;
}

bool MirrorJournal::Claim(uint64_t id) {
  MutexLock lock(&mutex_);
  return std::erase_if(unclaimed_, [id](const JournalEntry& entry) { return entry.id == id; }) > 0;
}

absl::StatusOr<uint64_t> MirrorJournal::Note(JournalEntry entry, bool sync) {
  const size_t strings =
      entry.kind.size() + entry.routing_key.size() + entry.key.size() + entry.idempotency_key.size();
  if (strings > kMaxEntryBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the mirror journal takes keys of at most ",
                                                   kMaxEntryBytes, " bytes; this one has ", strings));
  }
  uint64_t id = 0;
  uint64_t number = 0;
  {
    MutexLock lock(&mutex_);
    id = entry.id = next_id_++;
    const std::string record = NoteRecord(entry);
    AddPendingLocked(record);
    pending_notes_.push_back(id);
    pending_sync_ = pending_sync_ || sync_ || sync;
    open_bytes_ += record.size();
    open_.emplace(id, OpenEntry{std::move(entry), record.size(), absl::OkStatus()});
    number = added_;
  }
  Flush(number);
  MutexLock lock(&mutex_);
  const auto found = open_.find(id);
  const absl::Status written = found->second.written;
  if (written.ok()) return id;
  open_bytes_ -= found->second.bytes;
  open_.erase(found);
  return written;
}

void MirrorJournal::MarkCounted(uint64_t id) {
  uint64_t number = 0;
  {
    MutexLock lock(&mutex_);
    const auto found = open_.find(id);
    if (found == open_.end() || found->second.entry.counted) return;
    found->second.entry.counted = true;
    AddPendingLocked(IdRecord(Op::kCounted, id));
    number = added_;
  }
  Flush(number);
}

void MirrorJournal::Strike(uint64_t id) {
  uint64_t number = 0;
  {
    MutexLock lock(&mutex_);
    const auto found = open_.find(id);
    if (found == open_.end()) return;
    open_bytes_ -= found->second.bytes;
    open_.erase(found);
    AddPendingLocked(IdRecord(Op::kStrike, id));
    if (++pending_strikes_ < kStrikesAtOnce && !open_.empty()) return;
    number = added_;
  }
  Flush(number);
}

size_t MirrorJournal::open() const {
  MutexLock lock(&mutex_);
  return open_.size();
}

void MirrorJournal::AddPendingLocked(absl::string_view record) {
  pending_.append(record.data(), record.size());
  ++added_;
}

void MirrorJournal::Flush(uint64_t number) {
  MutexLock io_lock(&io_mutex_);
  {
    // Whoever held io_mutex_ meanwhile has done it for everybody who was waiting.
    MutexLock lock(&mutex_);
    if (tried_ >= number) return;
  }
  AppendPending();
  CompactIfWorthIt();
}

void MirrorJournal::AppendPending() {
  std::string bytes;
  std::vector<uint64_t> notes;
  uint64_t last = 0;
  bool sync = false;
  {
    MutexLock lock(&mutex_);
    sync = std::exchange(pending_sync_, false);
    bytes.swap(pending_);
    notes.swap(pending_notes_);
    pending_strikes_ = 0;
    last = added_;
  }
  const absl::Status status = storage_->Append(file_, bytes, sync);
  if (status.ok()) file_bytes_ += bytes.size();
  MutexLock lock(&mutex_);
  tried_ = last;
  if (status.ok()) return;
  for (uint64_t id : notes) {
    if (const auto found = open_.find(id); found != open_.end()) found->second.written = status;
  }
}

void MirrorJournal::CompactIfWorthIt() {
  {
    MutexLock lock(&mutex_);
    if (file_bytes_ <= std::max(compact_above_, 4 * open_bytes_)) return;
  }
  const absl::Status status = Compact();
  if (status.ok()) return;
  Log(LogLevel::kWarning, "the mirror journal could not be shortened; it goes on growing",
      {{"file", file_}, {"error", status.ToString()}});
  compact_above_ = 2 * file_bytes_;
}

absl::Status MirrorJournal::Compact() {
  std::string bytes = HeaderRecord(migration_);
  std::string covered;
  uint64_t last = 0;
  std::vector<uint64_t> notes;
  {
    MutexLock lock(&mutex_);
    for (const auto& [id, open] : open_) bytes.append(NoteRecord(open.entry));
    covered.swap(pending_);
    notes.swap(pending_notes_);
    last = added_;
  }
  const absl::Status status = storage_->Replace(file_, bytes);
  MutexLock lock(&mutex_);
  if (!status.ok()) {
    pending_.insert(0, covered);
    pending_notes_.insert(pending_notes_.begin(), notes.begin(), notes.end());
    return status;
  }
  tried_ = last;
  pending_strikes_ = 0;
  file_bytes_ = bytes.size();
  compact_above_ = kCompactBytes;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<MirrorJournals>> MirrorJournals::Open(
    const std::shared_ptr<StateStorage>& storage, const std::vector<std::string>& migrations, bool sync,
    RepairQueue* queue) {
  std::unique_ptr<MirrorJournals> journals(new MirrorJournals);
  for (uint32_t index = 0; index < migrations.size(); ++index) {
    LOCKSTEP_ASSIGN_OR_RETURN(std::unique_ptr<MirrorJournal> journal,
                              MirrorJournal::Open(storage, migrations[index], sync));
    for (const JournalEntry& entry : journal->recovered()) {
      queue->Hold(AttributionOf(entry, index), entry.store_epoch);
    }
    journals->journals_.push_back(std::move(journal));
  }
  return journals;
}

}  // namespace lockstep::internal
