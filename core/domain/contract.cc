#include "core/domain/contract.h"

#include <cmath>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace lockstep::domain {

absl::Status ValidateContract(const Contract& contract) {
  if (contract.fields.size() > kMaxContractFields) {
    return absl::InvalidArgumentError(absl::StrCat("contract.fields: ", contract.fields.size(),
                                                   " fields; at most ", kMaxContractFields, " are allowed"));
  }
  if (contract.revision == 0) return absl::InvalidArgumentError("contract.revision: revisions count from 1");
  absl::flat_hash_set<absl::string_view> paths;
  for (size_t i = 0; i < contract.fields.size(); ++i) {
    const FieldRule& field = contract.fields[i];
    const auto wrong = [&](absl::string_view member, absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat("contract.fields[", i, "].", member, ": ", what));
    };
    if (field.path.empty()) return wrong("path", "is empty; name the field as in \"address.city\"");
    if (!paths.insert(field.path).second) {
      return wrong("path", absl::StrCat("'", field.path, "' is declared twice; a path may appear only once"));
    }
    if (!std::isfinite(field.tolerance) || field.tolerance < 0) {
      return wrong("tolerance", absl::StrCat(field.tolerance, " must be a finite number of at least 0"));
    }
    if (!field.has_default && !field.default_value.empty()) {
      return wrong("default_value", "is given, but has_default is false");
    }
  }
  return absl::OkStatus();
}

}  // namespace lockstep::domain
