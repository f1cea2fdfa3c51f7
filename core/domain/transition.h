// What may happen to a migration: (command or verdict) + migration + now -> transition, or a reason why not.
// Admin calls, the gate loop and schedules all go through Plan; Registry::Apply commits what it returns.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/gate.h"
#include "core/domain/migration.h"

namespace lockstep::domain {

enum class CommandKind : uint8_t { kStart, kAdvance, kPause, kResume, kRollback, kAbort, kSetWeight };

inline constexpr std::array<CommandKind, 7> kAllCommands = {
    CommandKind::kStart,    CommandKind::kAdvance, CommandKind::kPause,    CommandKind::kResume,
    CommandKind::kRollback, CommandKind::kAbort,   CommandKind::kSetWeight};

absl::string_view CommandName(CommandKind kind);  // "advance"

// What a person asks for.
struct Command {
  CommandKind kind = CommandKind::kStart;
  uint32_t weight = 0;           // kSetWeight: the read weight, in buckets
  // kAdvance, or a kSetWeight that raises: go on although the gate does not say ADVANCE. Needs a reason.
  bool override_gate = false;
  std::string reason;
};

// What the gate found.
struct GateVerdict {
  GateResult result;
};

using Trigger = std::variant<Command, GateVerdict>;

// The change to commit. Only fields that change are set.
struct Transition {
  std::string action;            // "advance", "rollback", ...: for the decision record and metrics
  std::optional<RoutingState> target;  // next routing state, epoch not yet assigned; nothing: routing is unchanged
  RunState run_state = RunState::kDraft;
  int step = -1;
  bool new_generation = false;   // evidence and coverage are void
  std::string reason;            // one sentence
  std::optional<GateResult> evidence;  // what the verdict rested on
};

// Pure. `gate` is the newest evaluation (null: none yet), which an advance without override must satisfy.
// Refusals: FAILED_PRECONDITION that says from where, to where and what is allowed instead (or, for a gate that
// holds, check, value, bound, n and needed n); INVALID_ARGUMENT for a command that is malformed in itself (weight
// out of range, override without reason). A verdict that changes nothing yields nullopt.
//
// A rollback outranks everything: from DUAL_WRITE to CANARY_READ it is always granted.
absl::StatusOr<std::optional<Transition>> Plan(const Migration& migration, const Trigger& trigger,
                                               const GateResult* gate, absl::Time now);

// The commands that Plan would grant now, for error messages and for the CLI.
std::vector<CommandKind> AllowedCommands(const Migration& migration, const GateResult* gate, absl::Time now);

}  // namespace lockstep::domain
