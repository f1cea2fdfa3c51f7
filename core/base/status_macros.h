// Early return on a failed absl::Status or absl::StatusOr.
//
//   LOCKSTEP_RETURN_IF_ERROR(store->Commit(batch));
//   LOCKSTEP_ASSIGN_OR_RETURN(Migration m, registry->Get(name));
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define LOCKSTEP_RETURN_IF_ERROR(expr)                   \
  do {                                                   \
    ::absl::Status lockstep_status_ = (expr);            \
    if (!lockstep_status_.ok()) return lockstep_status_; \
  } while (false)

#define LOCKSTEP_MACRO_JOIN_INNER_(a, b) a##b
#define LOCKSTEP_MACRO_JOIN_(a, b) LOCKSTEP_MACRO_JOIN_INNER_(a, b)

#define LOCKSTEP_ASSIGN_OR_RETURN(lhs, expr) \
  LOCKSTEP_ASSIGN_OR_RETURN_IMPL_(LOCKSTEP_MACRO_JOIN_(lockstep_statusor_, __LINE__), lhs, expr)
#define LOCKSTEP_ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                                    \
  if (!tmp.ok()) return std::move(tmp).status();        \
  lhs = *std::move(tmp)
