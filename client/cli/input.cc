#include "client/cli/input.h"

#include <fstream>
#include <istream>
#include <iterator>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "client/cli/text.h"

namespace lockstep::cli {

std::string NameOfFile(const std::string& file) { return file == "-" ? "stdin" : file; }

std::optional<std::string> ReadFile(Session& session, const std::string& file) {
  if (file == "-") {
    return std::string(std::istreambuf_iterator<char>(session.streams().in), {});
  }
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (!in.is_open() || in.bad()) return std::nullopt;
  return text;
}

ExitCode RefuseUnreadable(Session& session, const std::string& file, absl::string_view kind) {
  return session.UsageError(absl::StrCat(file, " can't be read"),
                            absl::StrCat("-f names a ", kind, " file; \"-f -\" reads stdin"));
}

void PrintDiagnostics(Session& session, const std::string& file, const std::vector<Diagnostic>& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    const bool error = diagnostic.severity == Severity::kError;
    session.streams().err << Paint(session.err_style(), error ? Tone::kBad : Tone::kWaiting,
                                   Printable(FormatDiagnostic(NameOfFile(file), diagnostic)))
                          << "\n";
  }
  session.streams().err.flush();
}

size_t CountErrors(const std::vector<Diagnostic>& diagnostics) {
  size_t errors = 0;
  for (const Diagnostic& diagnostic : diagnostics) errors += diagnostic.severity == Severity::kError;
  return errors;
}

}  // namespace lockstep::cli
