// "What I have just written": lets a later read, on any instance, see a write although reads may be served by
// the side that was its mirror.
//
//   absl::StatusOr<WriteResult<Order>> written = orders->Write(42, order);
//   std::string cookie = written->token.ToString();             // may travel to the user and back
//   ...
//   absl::StatusOr<ReadToken> after = ReadToken::Parse(cookie);
//   orders->Read(42, {.after = *after});
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/domain/routing_state.h"
#include "lockstep/version_guard.h"

namespace lockstep {

// A value. The default one asks for nothing.
struct ReadToken {
  // The side that was written first, and the version it gave.
  domain::Side authoritative = domain::Side::kOld;
  Version version = 0;
  // The mirror had confirmed it when the call returned.
  bool mirrored = false;
  uint64_t epoch = 0;  // that the write was routed with; 0 = of no write

  // One word of [A-Za-z0-9.-], with a checksum against mistakes. It is no secret and no proof: whoever makes
  // one up gets reads from the authoritative side, no more.
  std::string ToString() const;
  // INVALID_ARGUMENT for anything that ToString hasn't written.
  static absl::StatusOr<ReadToken> Parse(absl::string_view text);

  bool operator==(const ReadToken&) const = default;
};

}  // namespace lockstep
