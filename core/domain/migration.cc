#include "core/domain/migration.h"

#include <array>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace lockstep::domain {
namespace {

constexpr size_t kMaxNamePartChars = 63;
constexpr absl::string_view kFormat =
    "; a migration is named \"namespaces/{namespace}/migrations/{id}\" or, in short, \"{namespace}/{id}\"";

absl::Status ValidateNamePart(absl::string_view what, absl::string_view part) {
  const auto wrong = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("migration name: the ", what, " ", why, kFormat));
  };
  if (part.empty()) return wrong("is empty");
  if (part.size() > kMaxNamePartChars) {
    return wrong(
        absl::StrCat("has ", part.size(), " characters; at most ", kMaxNamePartChars, " are allowed"));
  }
  for (const char c : part) {
    if (!absl::ascii_islower(c) && !absl::ascii_isdigit(c) && c != '-') {
      return wrong(absl::StrCat("may hold a-z, 0-9 and '-' only"));
    }
  }
  if (!absl::ascii_islower(part.front())) return wrong("must start with a letter");
  if (part.back() == '-') return wrong("must not end with '-'");
  return absl::OkStatus();
}

}  // namespace

absl::string_view RunStateName(RunState state) {
  switch (state) {
    case RunState::kDraft:
      return "DRAFT";
    case RunState::kRunning:
      return "RUNNING";
    case RunState::kPaused:
      return "PAUSED";
    case RunState::kRolledBack:
      return "ROLLED_BACK";
    case RunState::kSucceeded:
      return "SUCCEEDED";
  }
  return "";
}

absl::Time DeadlineOf(const Migration& migration) {
  const auto step = static_cast<size_t>(migration.step);
  if (migration.run_state != RunState::kRunning || migration.pending.has_value() || migration.step < 0 ||
      step >= migration.plan.steps.size() || migration.plan.steps[step].deadline <= absl::ZeroDuration()) {
    return absl::InfiniteFuture();
  }
  return migration.deadline_from + migration.plan.steps[step].deadline;
}

absl::StatusOr<MigrationId> ParseMigrationName(absl::string_view name) {
  // By hand: every unary decision comes by here, and a list of the parts would be allocated for each. A fifth
  // part is one too many, so that a long hostile name costs no more than a good one.
  std::array<absl::string_view, 5> parts;
  size_t count = 0;
  for (absl::string_view rest = name; count < parts.size();) {
    const size_t slash = rest.find('/');
    parts[count++] = rest.substr(0, slash);
    if (slash == absl::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  MigrationId id;
  if (count == 2) {
    id = {std::string(parts[0]), std::string(parts[1])};
  } else if (count == 4 && parts[0] == "namespaces" && parts[2] == "migrations") {
    id = {std::string(parts[1]), std::string(parts[3])};
  } else {
    return absl::InvalidArgumentError(absl::StrCat("migration name: unknown form", kFormat));
  }
  LOCKSTEP_RETURN_IF_ERROR(ValidateNamePart("namespace", id.ns));
  LOCKSTEP_RETURN_IF_ERROR(ValidateNamePart("id", id.id));
  return id;
}

std::string FullMigrationName(const MigrationId& id) {
  return absl::StrCat("namespaces/", id.ns, "/migrations/", id.id);
}

std::string ShortMigrationName(absl::string_view full_name) {
  const absl::StatusOr<MigrationId> id = ParseMigrationName(full_name);
  return id.ok() ? absl::StrCat(id->ns, "/", id->id) : std::string(full_name);
}

}  // namespace lockstep::domain
