// Command admission renders a kustomization as `kubectl apply -k` does. It prints the objects, and the pods that the Pod
// Security admission of an API server refuses by the labels of their namespace, as JSON: `admission FOLDER`.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

type verdict struct {
	Objects []json.RawMessage `json:"objects"`
	Refused []string          `json:"refused"`
}

// object has the parts of a rendered object that admission reads.
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name      string            `json:"name"`
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Template *corev1.PodTemplateSpec `json:"template"`
	} `json:"spec"`
}

func main() {
	found, err := judge(os.Args[1])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(folder string) (*verdict, error) {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return nil, err
	}
	found := &verdict{Refused: []string{}}
	objects := make([]object, rendered.Size())
	enforced := map[string]api.LevelVersion{}
	for i, resource := range rendered.Resources() {
		text, err := resource.MarshalJSON()
		if err == nil {
			err = json.Unmarshal(text, &objects[i])
		}
		if err != nil {
			return nil, err
		}
		found.Objects = append(found.Objects, text)
		if one := objects[i]; one.Kind == "Namespace" {
			// The defaults of an API server: a namespace without labels admits every pod.
			privileged := api.LevelVersion{Level: api.LevelPrivileged, Version: api.LatestVersion()}
			policies, wrong := api.PolicyToEvaluate(one.Metadata.Labels, api.Policy{Enforce: privileged})
			if len(wrong) > 0 {
				return nil, wrong.ToAggregate()
			}
			enforced[one.Metadata.Name] = policies.Enforce
		}
	}
	for _, one := range objects {
		template := one.Spec.Template
		level, ok := enforced[one.Metadata.Namespace]
		if template == nil {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%s %s is in no namespace of the kustomization", one.Kind, one.Metadata.Name)
		}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &template.ObjectMeta, &template.Spec))
		if !result.Allowed {
			found.Refused = append(found.Refused, one.Kind+" "+one.Metadata.Name+": "+result.ForbiddenDetail())
		}
	}
	return found, nil
}
