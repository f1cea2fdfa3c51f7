// The commands: each adds its part of the tree, and leaves what it would do in `*action` when the command
// line names it.
#pragma once

#include <functional>
#include <string>

#include "CLI/CLI.hpp"
#include "client/cli/exit_code.h"
#include "client/cli/session.h"

namespace lockstep::cli {

using Action = std::function<ExitCode(Session&)>;

// migration create|apply|lint|list|get|delete|history
void AddMigrationCommands(CLI::App* root, Action* action);
// start|advance|pause|resume|rollback|abort|set-weight
void AddChangeCommands(CLI::App* root, Action* action);
// instance list|evict, drill rollback
void AddFleetCommands(CLI::App* root, Action* action);
// get|wait|route explain|mismatch list|server health
void AddLookCommands(CLI::App* root, Action* action);
// gate explain|export|replay|simulate
void AddGateCommands(CLI::App* root, Action* action);
// replay|simulate, below `gate`: they need no server
void AddRehearsalCommands(CLI::App* gate, Action* action);
// get NAME [-w], below `parent`; the same command as `lockstep get` and as `lockstep migration get`.
void AddGetCommand(CLI::App* parent, Action* action);

// Every page of a list, up to `limit` items. `Fetch(page_token)` makes one call; `items` picks the items of a
// response.
template <typename Item, typename Response>
absl::StatusOr<std::vector<Item>> FetchAll(
    absl::FunctionRef<absl::StatusOr<Response>(const std::string& page_token)> fetch,
    absl::FunctionRef<const google::protobuf::RepeatedPtrField<Item>&(const Response&)> items, size_t limit) {
  std::vector<Item> all;
  std::string page_token;
  do {
    absl::StatusOr<Response> response = fetch(page_token);
    if (!response.ok()) return response.status();
    for (const Item& item : items(*response)) {
      if (all.size() == limit) return all;
      all.push_back(item);
    }
    page_token = response->next_page_token();
  } while (!page_token.empty());
  return all;
}

// Every instance enrolled for the migration, which is named in full.
absl::StatusOr<std::vector<v1::Instance>> FetchInstances(Session& session, const std::string& migration);

}  // namespace lockstep::cli
