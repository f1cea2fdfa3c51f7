#include "server/engine/migration_view.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace lockstep::engine {

GateEvaluation::GateEvaluation(domain::GateResult the_result, absl::Time when)
    : time(when), explained_(std::move(the_result)) {}

GateEvaluation::GateEvaluation(domain::GateFinding finding, absl::Time when)
    : time(when), finding_(std::move(finding)) {}

const domain::GateResult& GateEvaluation::result() const {
  std::call_once(explain_, [this] {
    if (!explained_) explained_ = finding_->Explain();
  });
  return *explained_;
}

std::string EtagOf(const domain::Migration& migration) { return absl::StrCat(migration.version); }

std::string MigrationView::etag() const { return EtagOf(*migration); }

}  // namespace lockstep::engine
