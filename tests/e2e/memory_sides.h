// Two stores in memory with the promises that a Migrator asks of its callbacks: atomic versioned writes,
// tombstones, guarded mirror writes.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/base/mutex.h"
#include "lockstep/migrator.h"

namespace lockstep::testing {

// The record is one text. Thread-safe.
class MemorySide {
 public:
  std::optional<std::string> Read(const std::string& key) const {
    MutexLock lock(&mutex_);
    const auto found = rows_.find(key);
    return found == rows_.end() ? std::nullopt : found->second.row;
  }
  WriteResult<std::string> Write(const std::string& key, const std::string* value) {
    MutexLock lock(&mutex_);
    WriteResult<std::string>& row = rows_[key];
    ++row.version;
    row.row = value == nullptr ? std::nullopt : std::optional<std::string>(*value);
    return row;
  }
  void Mirror(const std::string& key, const std::string* value, Version version) {
    MutexLock lock(&mutex_);
    const auto found = rows_.find(key);
    const std::optional<Version> present =
        found == rows_.end() ? std::nullopt : std::optional<Version>(found->second.version);
    ApplyIfNewer(present, version, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      rows_[key] = {version, value == nullptr ? std::nullopt : std::optional<std::string>(*value)};
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
  mutable Mutex mutex_;
  std::map<std::string, WriteResult<std::string>> rows_ ABSL_GUARDED_BY(mutex_);
};

using TextMigrator = Migrator<std::string, std::string>;

// A Migrator over two sides. `map` makes the new side's text of the old one's (a mapper with a bug makes
// another one); both sides show one field, "text".
inline absl::StatusOr<std::unique_ptr<TextMigrator>> MakeTextMigrator(
    Client* client, const std::string& migration, MemorySide* old_side, MemorySide* new_side,
    std::function<std::string(const std::string&)> map, MigratorOptions options = {}) {
  return TextMigrator::Builder(client, migration)
      .RoutingKey([](const std::string& key) { return key; })
      .ReadOld([=](const std::string& key, const ReadContext&) -> absl::StatusOr<std::optional<std::string>> {
        return old_side->Read(key);
      })
      .ReadNew([=](const std::string& key, const ReadContext&) -> absl::StatusOr<std::optional<std::string>> {
        return new_side->Read(key);
      })
      .WriteOld([=](const std::string& key, const std::string* value,
                    const WriteContext&) -> absl::StatusOr<WriteResult<std::string>> {
        return old_side->Write(key, value);
      })
      .MirrorToNew(
          [=](const std::string& key, const std::string* value, Version version, const WriteContext&) {
            if (value == nullptr) {
              new_side->Mirror(key, nullptr, version);
            } else {
              const std::string mapped = map(*value);
              new_side->Mirror(key, &mapped, version);
            }
            return absl::OkStatus();
          })
      .Fields([](const std::string& text) {
        return RecordView{{"text", FieldValue(text)}};
      })
      .Options(std::move(options))
      .Build();
}

}  // namespace lockstep::testing
