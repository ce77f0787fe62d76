/* Where a build may call or dial: a token goes to the policy's hosts and nowhere else. */
#include <string.h>

#include "base/url.h"
#include "policy/policy.h"

bool policy_host_allowed(const struct policy_build *b, const char *host)
{
    char lower[URL_HOST_MAX];
    size_t n = strlen(host);
    if (n == 0 || n >= sizeof lower) return false;
    for (size_t i = 0; i <= n; i++) {
        lower[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] | 0x20) : host[i];
    }
    for (uint32_t i = 0; i < b->host_count; i++) {
        if (url_host_matches(b->hosts[i], lower)) return true;
    }
    return false;
}

bool policy_url_allowed(const struct policy_build *b, const char *url, bool plain, const char **why)
{
    struct url u;
    if (!url_parse(url, strlen(url), &u, why)) return false;
    if (!u.tls && !plain && !url_is_loopback(&u)) {
        *why = "is not encrypted (http:// or ws://) and leads beyond this machine";
        return false;
    }
    if (!policy_host_allowed(b, u.host)) {
        *why = "has a host that is not on the policy's hosts";
        return false;
    }
    return true;
}
