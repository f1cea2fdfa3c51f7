// Files that commands read, and how what is wrong with them is shown.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "client/cli/migration_file.h"
#include "client/cli/session.h"

namespace lockstep::cli {

// "stdin" for "-", else the name as given: for messages.
std::string NameOfFile(const std::string& file);

// The whole of a file, or of stdin for "-"; nothing if it can't be read.
std::optional<std::string> ReadFile(Session& session, const std::string& file);
// Says that it can't be.
ExitCode RefuseUnreadable(Session& session, const std::string& file, absl::string_view kind);

// One line each, on stderr.
void PrintDiagnostics(Session& session, const std::string& file, const std::vector<Diagnostic>& diagnostics);
size_t CountErrors(const std::vector<Diagnostic>& diagnostics);

}  // namespace lockstep::cli
