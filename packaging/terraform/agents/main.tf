# Agents in every account of some organisational units, by a stack set of the template that
# scripts/ssm-package makes.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_cloudformation_stack_set" "agents" {
  name             = "picket-agents"
  template_body    = file(var.template)
  permission_model = "SERVICE_MANAGED"

  parameters = {
    ArtifactUrl     = var.artifact_url
    Collector       = var.collector
    AuthoritySha256 = var.authority_sha256
    Configuration   = var.configuration
    TagKey          = var.tag_key
    TagValue        = var.tag_value
    Schedule        = var.schedule
    HealthSchedule  = var.health_schedule
    MaxConcurrency  = var.max_concurrency
    MaxErrors       = var.max_errors
  }

  auto_deployment {
    enabled                          = true
    retain_stacks_on_account_removal = false
  }
}

resource "aws_cloudformation_stack_set_instance" "agents" {
  for_each       = toset(var.regions)
  stack_set_name = aws_cloudformation_stack_set.agents.name
  region         = each.value

  deployment_targets {
    organizational_unit_ids = var.organizational_unit_ids
  }
}
