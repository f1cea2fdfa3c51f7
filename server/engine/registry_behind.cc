// What the registry does once an instance has shown that the data is older than what it acts on: a backup was
// restored, or the data directory is the wrong one. The numbers of the epochs that are missing here would be
// given out a second time, for other states. So nothing is published for that migration any more, until a
// server with the newest data, or with a new store epoch, takes over. See registry.h.
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/error_info.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/engine/registry.h"
#include "server/engine/registry_keys.h"

namespace lockstep::engine {

absl::Status Registry::RecoverBehind(const std::string& name) {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> stored,
                            store_->Get(store::Table::kMeta, store::MetaKey(BehindKey(name))));
  if (!stored) return absl::OkStatus();
  const std::vector<std::string> parts = absl::StrSplit(*stored, absl::MaxSplits(' ', 2));
  uint64_t store_epoch = 0;
  Behind behind;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &store_epoch) ||
      !absl::SimpleAtoi(parts[1], &behind.claimed_epoch)) {
    return absl::DataLossError(absl::StrCat("the note that the data of ", name, " is too old is damaged"));
  }
  if (store_epoch != store_epoch_) return absl::OkStatus();  // of a history that is over
  behind.instance_id = parts[2];
  MutexLock lock(&view_mutex_);
  behind_.emplace(name, std::move(behind));
  any_behind_ = true;
  return absl::OkStatus();
}

void Registry::NoteBehind(const std::string& name, const std::string& instance_id, uint64_t claimed_epoch) {
  {
    MutexLock lock(&view_mutex_);
    if (!behind_.try_emplace(name, Behind{instance_id, claimed_epoch}).second) return;
    any_behind_ = true;
  }
  store::WriteBatch batch;
  batch.Put(store::Table::kMeta, store::MetaKey(BehindKey(name)),
            absl::StrCat(store_epoch_, " ", claimed_epoch, " ", instance_id));
  // Should it fail, a restart learns of it when the instance tries again.
  const absl::Status kept = store_->Commit(std::move(batch), std::nullopt).status();
  Log(LogLevel::kError, "the data is older than an instance's: nothing is published any more",
      {{"migration", name}, {"what to do", CheckNotBehind(name).message()}, {"kept", kept.ToString()}});
}

absl::Status Registry::CheckNotBehind(absl::string_view name) const {
  if (!any_behind_.load()) return absl::OkStatus();
  Behind behind;
  {
    MutexLock lock(&view_mutex_);
    const auto found = behind_.find(name);
    if (found == behind_.end()) return absl::OkStatus();
    behind = found->second;
  }
  const std::string why = absl::StrCat(
      "this server's data of ", name, " is older than that of instance '", behind.instance_id,
      "', which holds epoch ", behind.claimed_epoch,
      ": nothing is published for it. Start the server on the newest data, or, if this is all there "
      "is, once with --restored-from-backup");
  return WithErrorInfo(absl::FailedPreconditionError(why),
                       {.reason = "DATA_BEHIND",
                        .metadata = {{"migration", std::string(name)}, {"instance", behind.instance_id}},
                        .field_violations = {},
                        .precondition_violations = {{"DATA_BEHIND", std::string(name), why}}});
}

std::vector<std::string> Registry::ListBehind() const {
  std::vector<std::string> names;
  MutexLock lock(&view_mutex_);
  for (const auto& [name, behind] : behind_) names.push_back(name);
  return names;
}

}  // namespace lockstep::engine
