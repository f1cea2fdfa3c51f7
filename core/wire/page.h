// Paging of lists: page sizes, and page tokens that say where the next page starts.
//
//   const PageScope scope("ListDecisions", request.parent());
//   LOCKSTEP_ASSIGN_OR_RETURN(const int size, ReadPageSize(request.page_size()));
//   LOCKSTEP_ASSIGN_OR_RETURN(const std::string from, scope.PositionOf(request.page_token()));  // "" = the
//   beginning
//   ...
//   response.set_next_page_token(scope.TokenFor(position_of_the_next_page));
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace lockstep::wire {

inline constexpr int32_t kDefaultPageSize = 100;
inline constexpr int32_t kMaxPageSize = 1000;

// 0 becomes kDefaultPageSize. INVALID_ARGUMENT naming page_size when it is negative or above kMaxPageSize.
absl::StatusOr<int32_t> ReadPageSize(int32_t page_size);

// The list that tokens belong to: a token of another method, parent or token format is refused, because its
// position would be a wrong place in this list. Immutable.
class PageScope {
 public:
  // `method` as in the API; `parent` as in the request.
  PageScope(absl::string_view method, absl::string_view parent);

  // `position` is printable ASCII, 1 to 1024 characters: the key of the first entry of the next page, in
  // whatever form the list chooses.
  std::string TokenFor(absl::string_view position) const;

  // What TokenFor was given; empty for an empty token. INVALID_ARGUMENT naming page_token for anything else.
  // Tokens are checked against accidents, not signed: the position is printable ASCII, and otherwise to be
  // trusted as little as any input.
  absl::StatusOr<std::string> PositionOf(absl::string_view token) const;

 private:
  std::string Encode(absl::string_view position) const;

  uint64_t seed_;
};

}  // namespace lockstep::wire
