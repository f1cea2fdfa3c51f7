#include "core/domain/ladder.h"

#include "core/base/check.h"

namespace lockstep::domain {

const std::array<LadderRow, 7>& Ladder() {
  static constexpr std::array<LadderRow, 7> kLadder = {{
      {.stage = Stage::kOff,
       .name = "OFF",
       .writes_old = true,
       .writes_new = false,
       .may_serve_new = false,
       .compares = false,
       .roll_back_to = std::nullopt,
       .summary = "only the old side is written and read"},
      {.stage = Stage::kDualWrite,
       .name = "DUAL_WRITE",
       .writes_old = true,
       .writes_new = true,
       .may_serve_new = false,
       .compares = false,
       .roll_back_to = Stage::kOff,
       .summary = "writes go to the old side and are mirrored to the new one; the old side serves"},
      {.stage = Stage::kShadowRead,
       .name = "SHADOW_READ",
       .writes_old = true,
       .writes_new = true,
       .may_serve_new = false,
       .compares = true,
       .roll_back_to = Stage::kDualWrite,
       .summary = "the old side serves; sampled reads are compared with the new side"},
      {.stage = Stage::kCanaryRead,
       .name = "CANARY_READ",
       .writes_old = true,
       .writes_new = true,
       .may_serve_new = true,
       .compares = true,
       .roll_back_to = Stage::kShadowRead,
       .summary = "the new side serves a share of the keys; sampled reads are compared"},
      {.stage = Stage::kCutover,
       .name = "CUTOVER",
       .writes_old = true,
       .writes_new = true,
       .may_serve_new = true,
       .compares = true,
       .roll_back_to = Stage::kCanaryRead,
       .summary = "the new side serves; write authority moves to it slice by slice"},
      {.stage = Stage::kNewOnly,
       .name = "NEW_ONLY",
       .writes_old = false,
       .writes_new = true,
       .may_serve_new = true,
       .compares = false,
       .roll_back_to = std::nullopt,
       .summary = "only the new side is written and read"},
      {.stage = Stage::kComplete,
       .name = "COMPLETE",
       .writes_old = false,
       .writes_new = true,
       .may_serve_new = true,
       .compares = false,
       .roll_back_to = std::nullopt,
       .summary = "the old side may be dropped and the migration's code deleted"},
  }};
  return kLadder;
}

const LadderRow& LadderRowOf(Stage stage) {
  const auto index = static_cast<size_t>(stage);
  LOCKSTEP_CHECK(index < Ladder().size(), "not an enumerator of Stage");
  return Ladder()[index];
}

absl::string_view StageName(Stage stage) { return LadderRowOf(stage).name; }

std::optional<Stage> ParseStage(absl::string_view name) {
  for (const LadderRow& row : Ladder()) {
    if (row.name == name) return row.stage;
  }
  return std::nullopt;
}

}  // namespace lockstep::domain
