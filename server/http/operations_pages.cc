#include "server/http/operations_pages.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/http/metrics_page.h"

namespace lockstep::http {

std::map<std::string, HttpHandler> OperationsPages(OperationsSource source) {
  std::map<std::string, HttpHandler> pages;
  pages["/healthz"] = [] {
    HttpResponse response;
    response.body = "ok\n";
    return response;
  };
  pages["/readyz"] = [source] {
    HttpResponse response;
    const absl::Status health = source.engine->health();
    if (!source.ready()) {
      response.status = 503;
      response.body = "not ready: starting or draining\n";
    } else if (!health.ok()) {
      response.status = 503;
      response.body = absl::StrCat("not ready: ", health.message(), "\n");
    } else {
      response.body = "ready\n";
      // It serves, but has to be told what to do: no reason to be cut off from those that follow.
      for (const std::string& name : source.engine->registry().ListBehind()) {
        absl::StrAppend(&response.body, "behind: ", source.engine->registry().CheckNotBehind(name).message(),
                        "\n");
      }
    }
    return response;
  };
  pages["/metrics"] = [source] {
    HttpResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = RenderMetrics(source.engine->Metrics(), source.version);
    return response;
  };
  return pages;
}

}  // namespace lockstep::http
