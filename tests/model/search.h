// Breadth-first search over every world that can be reached.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/model/fence_world.h"

namespace lockstep::model {

struct SearchResult {
  size_t worlds = 0;
  size_t transitions = 0;
  bool complete = false;         // else it ended at a violation, or at the bound
  std::string violation;         // the first one, empty = none
  std::vector<std::string> way;  // the shortest way to it, a step a line
  // Worlds with a goal from which, without another command, no world without a goal can be reached.
  size_t traps = 0;
  std::string trap;  // the first one
};

// Ends at the first violation of safety; looks for traps only if there is none. At most `max_worlds`.
SearchResult Search(Faults faults, const Rules& rules, const std::vector<StateId>& goals, size_t max_worlds);

}  // namespace lockstep::model
