#include "lockstep/state_storage_memory.h"

#include <utility>

namespace lockstep {

absl::StatusOr<std::optional<std::string>> MemoryStateStorage::Read(absl::string_view name) {
  MutexLock lock(&mutex_);
  const auto found = files_.find(std::string(name));
  if (found == files_.end()) return std::optional<std::string>();
  return std::optional<std::string>(found->second.contents);
}

absl::Status MemoryStateStorage::Replace(absl::string_view name, absl::string_view contents) {
  MutexLock lock(&mutex_);
  if (!write_status_.ok()) return write_status_;
  files_[std::string(name)] = {std::string(contents), contents.size()};
  ++syncs_;
  return absl::OkStatus();
}

absl::Status MemoryStateStorage::Append(absl::string_view name, absl::string_view bytes, bool sync) {
  MutexLock lock(&mutex_);
  if (!write_status_.ok()) return write_status_;
  File& file = files_[std::string(name)];
  file.contents.append(bytes.data(), bytes.size());
  if (sync) {
    file.synced_bytes = file.contents.size();
    ++syncs_;
  }
  return absl::OkStatus();
}

void MemoryStateStorage::Crash(Failure failure) {
  MutexLock lock(&mutex_);
  switch (failure) {
    case Failure::kProcess:
      return;
    case Failure::kMachine:
      for (auto& [name, file] : files_) {
        const uint64_t at_risk = file.contents.size() - file.synced_bytes;
        // Nothing and everything are as likely as anything in between.
        const uint64_t kind = prng_.Below(3);
        const uint64_t kept = kind == 0 ? 0 : kind == 1 ? at_risk : prng_.Below(at_risk + 1);
        file.contents.resize(file.synced_bytes + kept);
        file.synced_bytes = file.contents.size();
      }
      return;
  }
}

void MemoryStateStorage::FailWrites(absl::Status status) {
  MutexLock lock(&mutex_);
  write_status_ = std::move(status);
}

void MemoryStateStorage::Put(absl::string_view name, std::string contents) {
  MutexLock lock(&mutex_);
  const size_t size = contents.size();
  files_[std::string(name)] = {std::move(contents), size};
}

uint64_t MemoryStateStorage::Syncs() const {
  MutexLock lock(&mutex_);
  return syncs_;
}

}  // namespace lockstep
