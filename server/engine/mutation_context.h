// Who asks for a change, and under which conditions: an argument of every mutation.
#pragma once

#include <string>

namespace lockstep::engine {

// The acting party, e.g. "user:ann@host", "gate", "instance:cities-1". Never empty.
struct Principal {
  std::string name;
  bool operator==(const Principal&) const = default;
};

// The gate's verdicts are applied under this name.
inline constexpr char kGatePrincipal[] = "gate";
// Publishes that an acknowledgement, a leave or an expiry made possible.
inline constexpr char kFencePrincipal[] = "fence";

struct MutationContext {
  Principal principal;
  // Only if the migration is still at this etag; empty = whatever it is.
  std::string etag;
  // A repeat within 24 hours returns the first success; empty = no idempotency.
  std::string request_id;
  // Runs every check and fails exactly when the real call would, but changes nothing. The result is what the
  // real call would return. Does not use up the request id.
  bool validate_only = false;
  // For the decision record and the audit log.
  std::string reason;
};

}  // namespace lockstep::engine
