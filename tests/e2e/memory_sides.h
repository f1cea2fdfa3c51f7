// Two stores in memory with the promises that a Migrator asks of its callbacks: atomic versioned writes,
// tombstones, guarded mirror writes, deadlines.
#pragma once

#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/check.h"
#include "core/base/mutex.h"
#include "lockstep/migrator.h"

namespace lockstep::testing {

// The record is one text. Thread-safe.
class MemorySide {
 public:
  // Kept in memory alone.
  MemorySide() = default;
  // Every write also goes to the end of this file, so that it survives the process; what an earlier process
  // has written there is there. Keys and texts are without blanks.
  explicit MemorySide(const std::string& path) {
    std::ifstream file(path);
    std::string key, text;
    Version version = 0;
    while (file >> key >> version >> text) rows_[key] = {version, RowOf(text)};
    log_.open(path, std::ios::app);
    LOCKSTEP_CHECK(log_.is_open(), "the side's file can't be written");
  }

  std::optional<std::string> Read(const std::string& key) const {
    MutexLock lock(&mutex_);
    const auto found = rows_.find(key);
    return found == rows_.end() ? std::nullopt : found->second.row;
  }
  // As Read, with the version, tombstones included.
  WriteResult<std::string> Current(const std::string& key) const {
    MutexLock lock(&mutex_);
    const auto found = rows_.find(key);
    return found == rows_.end() ? WriteResult<std::string>() : found->second;
  }
  WriteResult<std::string> Write(const std::string& key, const std::string* value) {
    MutexLock lock(&mutex_);
    WriteResult<std::string>& row = rows_[key];
    ++row.version;
    row.row = value == nullptr ? std::nullopt : std::optional<std::string>(*value);
    Keep(key, row);
    return row;
  }
  void Mirror(const std::string& key, const std::string* value, Version version) {
    MutexLock lock(&mutex_);
    const auto found = rows_.find(key);
    const std::optional<Version> present =
        found == rows_.end() ? std::nullopt : std::optional<Version>(found->second.version);
    ApplyIfNewer(present, version, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      WriteResult<std::string>& row = rows_[key];
      row = {version, value == nullptr ? std::nullopt : std::optional<std::string>(*value)};
      Keep(key, row);
    });
  }
  // Everything, tombstones left out.
  std::map<std::string, std::string> Rows() const {
    MutexLock lock(&mutex_);
    std::map<std::string, std::string> rows;
    for (const auto& [key, row] : rows_) {
      if (row.row) rows[key] = *row.row;
    }
    return rows;
  }
  // Copies what `other` has, under guard.
  void BackfillFrom(const MemorySide& other) {
    std::map<std::string, WriteResult<std::string>> rows;
    {
      MutexLock lock(&other.mutex_);
      rows = other.rows_;
    }
    for (const auto& [key, row] : rows) Mirror(key, row.row ? &*row.row : nullptr, row.version);
  }

 private:
  static std::optional<std::string> RowOf(const std::string& text) {
    return text == kTombstone ? std::nullopt : std::optional<std::string>(text);
  }
  void Keep(const std::string& key, const WriteResult<std::string>& row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!log_.is_open()) return;
    // One system call for each line, so that a kill leaves whole lines.
    log_ << absl::StrCat(key, " ", row.version, " ", row.row.value_or(kTombstone), "\n") << std::flush;
  }

  static constexpr char kTombstone[] = "-";
  mutable Mutex mutex_;
  std::map<std::string, WriteResult<std::string>> rows_ ABSL_GUARDED_BY(mutex_);
  std::ofstream log_ ABSL_GUARDED_BY(mutex_);  // not open: in memory alone
};

using TextMigrator = Migrator<std::string, std::string>;

// A Migrator over two sides, for every stage. `map` makes the new side's text of the old one's (a mapper with
// a bug makes another one); the way back changes nothing. Both sides show one field, "text".
// `before_write`, if there is one, is called where an authoritative write begins.
inline absl::StatusOr<std::unique_ptr<TextMigrator>> MakeTextMigrator(
    Client* client, const std::string& migration, MemorySide* old_side, MemorySide* new_side,
    std::function<std::string(const std::string&)> map, MigratorOptions options = {},
    std::function<void()> before_write = nullptr) {
  const auto read = [](const MemorySide* side) {
    return [=](const std::string& key, const ReadContext&) -> absl::StatusOr<std::optional<std::string>> {
      return side->Read(key);
    };
  };
  const auto current = [](const MemorySide* side) {
    return [=](const std::string& key, const ReadContext&) -> absl::StatusOr<WriteResult<std::string>> {
      return side->Current(key);
    };
  };
  const auto write = [=](MemorySide* side) {
    return [=](const std::string& key, const std::string* value,
               const WriteContext& context) -> absl::StatusOr<WriteResult<std::string>> {
      if (before_write != nullptr) before_write();
      if (absl::Now() > context.deadline) return absl::DeadlineExceededError("too late to write");
      return side->Write(key, value);
    };
  };
  const auto mirror = [](MemorySide* side, std::function<std::string(const std::string&)> mapper) {
    return [side, mapper = std::move(mapper)](const std::string& key, const std::string* value,
                                              Version version, const WriteContext& context) {
      if (absl::Now() > context.deadline) return absl::DeadlineExceededError("too late to mirror");
      if (value == nullptr) {
        side->Mirror(key, nullptr, version);
      } else {
        const std::string mapped = mapper(*value);
        side->Mirror(key, &mapped, version);
      }
      return absl::OkStatus();
    };
  };
  const auto same = [](const std::string& text) { return text; };
  return TextMigrator::Builder(client, migration)
      .RoutingKey(same)
      .ReadOld(read(old_side))
      .ReadNew(read(new_side))
      .WriteOld(write(old_side))
      .WriteNew(write(new_side))
      .MirrorToNew(mirror(new_side, std::move(map)))
      .MirrorToOld(mirror(old_side, same))
      .CurrentOld(current(old_side))
      .CurrentNew(current(new_side))
      .KeyCodec(same, [](absl::string_view text) -> absl::StatusOr<std::string> { return std::string(text); })
      .Fields([](const std::string& text) {
        return RecordView{{"text", FieldValue(text)}};
      })
      .Options(std::move(options))
      .Build();
}

}  // namespace lockstep::testing
