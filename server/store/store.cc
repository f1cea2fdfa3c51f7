#include "server/store/store.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::store {

void WriteBatch::Put(Table table, std::string key, std::string value) {
  bytes_ += key.size() + value.size() + kOperationOverheadBytes;
  operations_.push_back({table, std::move(key), std::move(value)});
}

void WriteBatch::Delete(Table table, std::string key) {
  bytes_ += key.size() + kOperationOverheadBytes;
  operations_.push_back({table, std::move(key), std::nullopt});
}

absl::Status ValidateBatch(const WriteBatch& batch) {
  if (batch.bytes() > kMaxCommitBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a commit of ", batch.bytes(), " bytes is over the limit of ", kMaxCommitBytes, "; split it"));
  }
  for (const WriteBatch::Operation& operation : batch.operations()) {
    if (operation.key.empty() || operation.key.size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(absl::StrCat("a key of table ", TableName(operation.table), " has ",
                                                     operation.key.size(), " bytes; allowed are 1 to ",
                                                     kMaxKeyBytes));
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::store
