package main

import (
	"fmt"
	"sort"
	"sync"
)

// maxExamples bounds what is printed of one rule.
const maxExamples = 4

var (
	findingsLock sync.Mutex
	brokenRules  = map[string][]string{}
)

// broken records that a rule does not hold; callable from several goroutines.
func broken(rule, format string, values ...any) {
	findingsLock.Lock()
	defer findingsLock.Unlock()
	brokenRules[rule] = append(brokenRules[rule], fmt.Sprintf(format, values...))
}

func note(name, format string, values ...any) {
	fmt.Printf("NOTE %s: %s\n", name, fmt.Sprintf(format, values...))
}

// printFindings prints the broken rules and returns the exit code.
func printFindings() int {
	findingsLock.Lock()
	defer findingsLock.Unlock()
	rules := make([]string, 0, len(brokenRules))
	for rule := range brokenRules {
		rules = append(rules, rule)
	}
	sort.Strings(rules)
	for _, rule := range rules {
		for i, example := range brokenRules[rule] {
			if i < maxExamples {
				fmt.Printf("BROKEN %s: %s\n", rule, example)
			}
		}
	}
	if len(rules) > 0 {
		return 1
	}
	return 0
}
