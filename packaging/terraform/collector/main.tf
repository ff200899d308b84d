# The collector, by the CloudFormation template; what it makes and why stands there.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

resource "aws_cloudformation_stack" "collector" {
  name          = var.stack_name
  template_body = file("${path.module}/../../cloudformation/collector.yaml")
  capabilities  = ["CAPABILITY_IAM"]
  on_failure    = "ROLLBACK"

  parameters = {
    VpcId            = var.vpc_id
    SubnetId         = var.subnet_id
    AvailabilityZone = var.availability_zone
    AgentCidr        = var.agent_cidr
    Name             = var.name
    HostedZoneId     = var.hosted_zone_id
    Accounts         = join(",", var.accounts)
    InstanceType     = var.instance_type
    ImageId          = var.image_id
    VolumeGiB        = var.volume_gib
    ArtifactBucket   = var.artifact_bucket
    ArtifactPrefix   = var.artifact_prefix
    SumsSha256       = var.sums_sha256
    TrailBucket      = var.trail_bucket
    TrailTopicArn    = var.trail_topic_arn
    TrailKeyArn      = var.trail_key_arn
    SessionManager   = var.session_manager ? "yes" : "no"
  }
}

output "collector" {
  description = "What agents are given as their collector."
  value       = aws_cloudformation_stack.collector.outputs["Collector"]
}

output "address" {
  description = "Where its name must lead."
  value       = aws_cloudformation_stack.collector.outputs["Address"]
}

output "queue_arn" {
  description = "Where the notifications of CloudTrail's bucket must go; null without one."
  value       = lookup(aws_cloudformation_stack.collector.outputs, "QueueArn", null)
}
