package main

import (
	"fmt"

	"github.com/collectord/collectord/pkg/config"
	"github.com/collectord/collectord/pkg/web"
)

// readTokens reads HTTP_TOKENS_FILE; nil without one. The warnings are about tokens that can be
// used and are probably not what a person wants.
func (c *configuration) readTokens() (tokens *web.Tokens, warnings []string, err error) {
	s := c.settings.HTTP
	if s.TokensFile == "" {
		return nil, nil, nil
	}
	if tokens, err = web.ReadTokens(s.TokensFile, s.ConfigFile); err != nil {
		return nil, nil, err
	}
	if name := tokens.Contains(s.Token.Reveal()); name != "" {
		return nil, nil, fmt.Errorf("HTTP_TOKENS_FILE: %s: the token %q is that of HTTP_TOKEN, which has all rights: want another one", s.TokensFile, name)
	}
	warnings = tokens.Unknown(c.tenancyNames())
	if exposure := config.FileExposure(s.TokensFile); exposure != "" && len(tokens.Secrets()) > 0 {
		warnings = append(warnings, "HTTP_TOKENS_FILE: "+exposure+", or use token_sha256")
	}
	return tokens, warnings, nil
}

// warnOfTokens adds the warnings about HTTP_TOKENS_FILE. Its error is that of the service and of
// the check of the settings alone: other commands do not need it.
func (c *configuration) warnOfTokens() {
	_, warnings, _ := c.readTokens()
	c.warnings = append(c.warnings, warnings...)
}

// loadTokens is readTokens for the service, whose log must not have them.
func (a *assembly) loadTokens() (tokens *web.Tokens, warnings []string, err error) {
	tokens, warnings, err = a.readTokens()
	if tokens != nil {
		a.redactor.Learn(tokens.Secrets()...)
	}
	return tokens, warnings, err
}
